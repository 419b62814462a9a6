use std::collections::{BTreeMap, BTreeSet};

use super::Deed;

/// What a host has to remediate with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// Whether there is a sandbox to speak with.
    pub sandbox: bool,
    /// How many people have to approve a release.
    pub approvals: u8,
    /// What can be done, and why the rest cannot.
    pub deeds: BTreeMap<Deed, Result<(), String>>,
    /// What the provisioners are called.
    pub provisioners: BTreeSet<String>,
}

impl Means {
    pub fn can(&self, deed: Deed) -> bool {
        matches!(self.deeds.get(&deed), Some(Ok(())))
    }

    /// Why there is no provisioner of the name; `None` where there is one.
    pub(super) fn no_provisioner(&self, name: &str) -> Option<String> {
        if self.provisioners.contains(name) {
            return None;
        }
        let all: Vec<_> = self.provisioners.iter().map(String::as_str).collect();
        let there = match &all[..] {
            [] => "none".to_owned(),
            all => all.join(", "),
        };
        Some(format!(
            "{name:?} is no provisioner of this host; remediation.provisioners lists {there}"
        ))
    }

    /// Why the deed cannot be done.
    pub fn why_not(&self, deed: Deed) -> String {
        match self.deeds.get(&deed) {
            Some(Err(why)) => why.clone(),
            _ => format!("{} is not available on this host", deed.as_str()),
        }
    }
}
