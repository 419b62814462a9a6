use std::collections::BTreeMap;

use serde::Deserialize;

use crate::inventory::MetadataTrust;

/// The section `libvirt`: which libvirts are followed, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Libvirt {
    /// A connection URI; empty when this host's VMs are not libvirt's.
    pub uri: String,
    /// Several of them: when there are any, they are in the place of `uri`.
    pub uris: Vec<String>,
    /// What it counts that a domain's description says in our own XML namespace.
    pub metadata: MetadataTrust,
    /// Whether the agents inside of guests are asked what they say of themselves.
    pub guest_agents: bool,
    /// The same as `metadata`, for single connections.
    pub metadata_of: BTreeMap<String, MetadataTrust>,
}

impl Libvirt {
    pub(super) const URI: &str = "qemu:///system";

    /// Every connection that is to be kept up.
    pub fn uris(&self) -> &[String] {
        match (self.uris.as_slice(), self.uri.is_empty()) {
            ([], true) => &[],
            ([], false) => std::slice::from_ref(&self.uri),
            (several, _) => several,
        }
    }

    /// How far metadata are believed that come by this connection.
    pub fn metadata(&self, uri: &str) -> MetadataTrust {
        self.metadata_of.get(uri).copied().unwrap_or(self.metadata)
    }

    /// The first connection to this driver of libvirt's (`qemu`, `lxc`), however it is reached.
    pub fn uri_of(&self, driver: &str) -> Option<&str> {
        let drives = |uri: &&String| {
            let rest = uri.strip_prefix(driver);
            rest.is_some_and(|rest| rest.starts_with("://") || rest.starts_with('+'))
        };
        self.uris().iter().find(drives).map(String::as_str)
    }
}

impl Default for Libvirt {
    fn default() -> Self {
        Self {
            uri: Self::URI.to_owned(),
            uris: Vec::new(),
            metadata: MetadataTrust::default(),
            guest_agents: true,
            metadata_of: BTreeMap::new(),
        }
    }
}
