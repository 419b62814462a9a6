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
}

impl Means {
    pub fn can(&self, deed: Deed) -> bool {
        matches!(self.deeds.get(&deed), Some(Ok(())))
    }

    /// Why the deed cannot be done.
    pub fn why_not(&self, deed: Deed) -> String {
        match self.deeds.get(&deed) {
            Some(Err(why)) => why.clone(),
            _ => format!("{} is not available on this host", deed.as_str()),
        }
    }
}
