use serde::Deserialize;

use super::check::{Checked, ensure};
use crate::api::Role;

/// Who may ask what over the socket: names or numbers of users, and of groups behind an `@`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Roles {
    pub view: Vec<String>,
    pub operate: Vec<String>,
    pub administer: Vec<String>,
}

impl Roles {
    /// Each role and who has it.
    pub fn all(&self) -> [(Role, &[String]); 3] {
        [
            (Role::View, &self.view),
            (Role::Operate, &self.operate),
            (Role::Administer, &self.administer),
        ]
    }
}

/// More are a slip: who is many is a group.
const MAX_MEMBERS: usize = 256;

pub(super) fn check(roles: &Roles) -> Checked {
    for (role, names) in roles.all() {
        let key: &'static [&'static str] = match role {
            Role::View => &["roles", "view"],
            Role::Operate => &["roles", "operate"],
            Role::Administer => &["roles", "administer"],
        };
        ensure(names.len() <= MAX_MEMBERS, key, || {
            format!("{} names; expected at most {MAX_MEMBERS}", names.len())
        })?;
        let wrong = names.iter().find(|name| {
            let bare = name.strip_prefix('@').unwrap_or(name);
            bare.is_empty() || bare.contains(['@', ':', '/']) || bare.contains(char::is_whitespace)
        });
        ensure(wrong.is_none(), key, || {
            let wrong = wrong.map_or("", String::as_str);
            format!(
                "{wrong:?} is no name; expected a user such as \"alice\", or a group such as \"@staff\""
            )
        })?;
    }
    Ok(())
}
