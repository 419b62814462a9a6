use std::collections::BTreeMap;

use uuid::Uuid;

use super::Template;

/// What people have approved for single VMs: after a remediation a VM boots from an image that no template has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Births {
    /// As a template that only this VM descends from.
    pub held: BTreeMap<Uuid, Template>,
    /// Why there may be others: then nobody is denied for the lack of one.
    pub lost: Option<String>,
}
