use std::collections::BTreeMap;

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
    /// What the provisioners are called, and whether the VM runs for each.
    pub provisioners: BTreeMap<String, bool>,
}

impl Means {
    pub fn can(&self, deed: Deed) -> bool {
        matches!(self.deeds.get(&deed), Some(Ok(())))
    }

    /// Why there is no provisioner of the name; `None` where there is one.
    pub(super) fn no_provisioner(&self, name: &str) -> Option<String> {
        if self.provisioners.contains_key(name) {
            return None;
        }
        let all: Vec<_> = self.provisioners.keys().map(String::as_str).collect();
        let there = match &all[..] {
            [] => "none".to_owned(),
            all => all.join(", "),
        };
        Some(format!(
            "{name:?} is no provisioner of this host; remediation.provisioners lists {there}"
        ))
    }

    /// Why a VM with a way out that no guard can be on is not changed by the provisioner of the name; `None` where
    /// it does not run for that.
    pub(super) fn lets_out(&self, name: &str) -> Option<String> {
        self.provisioners.get(name).is_some_and(|runs| *runs).then(|| {
            format!(
                "the VM runs for {name:?}, and has a way out that no guard can be on (detector explain vm): take \
                 that out of its description, or choose a provisioner for which it is off"
            )
        })
    }

    /// Why the deed cannot be done.
    pub fn why_not(&self, deed: Deed) -> String {
        match self.deeds.get(&deed) {
            Some(Err(why)) => why.clone(),
            _ => format!("{} is not available on this host", deed.as_str()),
        }
    }
}
