//! The one file by which a fleet's policy comes: a signature in the format of minisign, and the signed text behind it.
//!
//! The text is one JSON document that names files and has what is in them. There is nothing to unpack: no paths but those
//! that are expected, no links, no compression, so that what is read is never more than the file.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};

use super::{Name, message::Time};

/// The first line of a bundle. Another form has another number.
pub const MAGIC: &str = "detector-bundle 1";

/// The longest bundle in bytes: one message of NATS.
pub const LONGEST: usize = 960 << 10;
/// The longest signature: four lines, of which a person chooses two.
const LONGEST_SIGNATURE: usize = 4 << 10;
/// The longest file of a bundle, in bytes.
pub const LONGEST_FILE: usize = 256 << 10;
/// Files of a bundle.
const MOST_FILES: usize = 1024;
const LONGEST_NAME: usize = 96;
/// For how many seconds at most a bundle can be given back.
pub const LONGEST_WITHDRAW: u64 = 30 * 24 * 60 * 60;

/// Rules in Cedar.
pub const POLICY: &str = "policy.cedar";
/// The schema that they were checked by.
pub const SCHEMA: &str = "policy.cedarschema";
/// Keys of the configuration.
pub const SETTINGS: &str = "settings.toml";
/// Manifests of templates, and signatures of them.
pub const TEMPLATES: &str = "templates/";

/// What a bundle says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    pub fleet: Name,
    /// It only grows.
    pub version: u64,
    pub created: Time,
    /// From then on no host takes it any more. One that has taken it keeps it.
    pub expires: Time,
    /// What is new, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// For so many seconds after a host has taken it the fleet may have it go back to what it had before.
    #[serde(default)]
    pub withdraw: u64,
    #[serde(deserialize_with = "files")]
    pub files: BTreeMap<String, String>,
}

/// Why a file is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it has {0} bytes; expected at most {LONGEST}")]
    TooLong(usize),
    #[error("its first line is not {MAGIC:?}: it is no bundle, or one of another release")]
    NoBundle,
    #[error(
        "it has no signature; sign its text (`minisign -S -m`) and seal it (`detector fleet policy seal`)"
    )]
    NoSignature,
    #[error("what it says cannot be read: {0}")]
    Unreadable(String),
}

/// A bundle as it came, in its two parts; nothing of it is believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// Of `text`, as minisign writes it.
    pub signature: &'a str,
    pub text: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Divides a bundle into its parts.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        if bytes.len() > LONGEST {
            return Err(Fault::TooLong(bytes.len()));
        }
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
        let rest = rest.ok_or(Fault::NoBundle)?;
        let mut ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let (end, _) = ends.nth(3).ok_or(Fault::NoSignature)?;
        let (signature, text) = rest.split_at(end + 1);
        if signature.len() > LONGEST_SIGNATURE || !signature.starts_with(b"untrusted comment:") {
            return Err(Fault::NoSignature);
        }
        let signature = std::str::from_utf8(signature).map_err(|_| Fault::NoSignature)?;
        Ok(Self { signature, text })
    }
}

/// Puts a signature before the text that it is of.
///
/// # Errors
///
/// That is no bundle.
pub fn seal(signature: &str, text: &[u8]) -> Result<Vec<u8>, Fault> {
    let sealed = [MAGIC.as_bytes(), b"\n", signature.trim_end().as_bytes(), b"\n", text].concat();
    let read = Sealed::read(&sealed)?;
    // A signature of more or fewer lines would take some of the text for its own.
    if read.text.len() == text.len() { Ok(sealed) } else { Err(Fault::NoSignature) }
}

impl Bundle {
    /// Reads the text of a bundle, which somebody trusted has signed, and which may still be damaged or a slip.
    ///
    /// # Errors
    ///
    /// It says something else than a bundle does.
    pub fn parse(text: &[u8]) -> Result<Self, Fault> {
        if text.len() > LONGEST {
            return Err(Fault::TooLong(text.len()));
        }
        let bundle: Self =
            serde_json::from_slice(text).map_err(|error| Fault::Unreadable(error.to_string()))?;
        let no = |why: &str| Err(Fault::Unreadable(why.to_owned()));
        if bundle.version == 0 {
            return no("its version is 0; expected 1 or more");
        }
        if bundle.expires <= bundle.created {
            return no("it expires before it was made");
        }
        if bundle.withdraw > LONGEST_WITHDRAW {
            return no("it could be withdrawn for more than 30 days");
        }
        if !bundle.files.contains_key(POLICY) {
            return no("it has no policy.cedar; expected the whole policy in each bundle");
        }
        Ok(bundle)
    }

    /// As it is signed.
    ///
    /// # Errors
    ///
    /// No host would read that.
    pub fn to_text(&self) -> Result<Vec<u8>, Fault> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Fault::Unreadable(error.to_string()))?;
        text.push(b'\n');
        Self::parse(&text)?;
        // With a signature it must still be short enough.
        let all = text.len() + LONGEST_SIGNATURE + MAGIC.len();
        if all > LONGEST { Err(Fault::TooLong(all)) } else { Ok(text) }
    }

    /// Manifests of templates and their signatures, by their file names.
    pub fn templates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| {
            path.strip_prefix(TEMPLATES).map(|name| (name, text.as_str()))
        })
    }
}

/// Whether a bundle may have a file of this name.
fn check_path(path: &str) -> Result<(), String> {
    if [POLICY, SCHEMA, SETTINGS].contains(&path) {
        return Ok(());
    }
    let name = path.strip_prefix(TEMPLATES).unwrap_or_default();
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b));
    let ends = name.ends_with(".toml") || name.ends_with(".toml.minisig");
    if name.len() <= LONGEST_NAME && plain && ends && !name.starts_with('.') {
        return Ok(());
    }
    let shown: String = path.chars().take(LONGEST_NAME).collect();
    Err(format!(
        "it has a file {shown:?}; expected {POLICY}, {SCHEMA}, {SETTINGS}, and {TEMPLATES}NAME.toml with \
         NAME.toml.minisig"
    ))
}

/// Files by name; one that is there twice is refused, since readers differ in which of them they take.
fn files<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Files;
    impl<'de> Visitor<'de> for Files {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("texts by file name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut files = BTreeMap::new();
            while let Some((path, text)) = map.next_entry::<String, String>()? {
                check_path(&path).map_err(A::Error::custom)?;
                if text.len() > LONGEST_FILE {
                    return Err(A::Error::custom(format_args!(
                        "{path} has {} bytes; expected at most {LONGEST_FILE}",
                        text.len()
                    )));
                }
                if files.insert(path.clone(), text).is_some() {
                    return Err(A::Error::custom(format_args!("{path} is there twice")));
                }
                if files.len() > MOST_FILES {
                    return Err(A::Error::custom(format_args!("more than {MOST_FILES} files")));
                }
            }
            Ok(files)
        }
    }
    from.deserialize_map(Files)
}
