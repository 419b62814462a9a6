use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name in bytes: that of a DNS label.
const LONGEST: usize = 63;

/// The name of a fleet, of a host, or of somebody who holds credentials: one token of a subject, so that it can stand
/// for no other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text that is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name here; expected 1 to {LONGEST} lower-case letters, digits and hyphens, such as \"host-1\", with no \
     hyphen at either end"
)]
pub struct BadName(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let letters = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let ends = text.starts_with('-') || text.ends_with('-');
        if text.is_empty() || text.len() > LONGEST || !letters || ends {
            return Err(BadName(text.chars().take(2 * LONGEST).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
