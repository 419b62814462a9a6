use std::net::IpAddr;

use detector_common::{addr::Mac, learned::Origin};
use serde::{Deserialize, Serialize};

use super::Timestamp;

/// An address that a port has learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The port instance.
    pub instance: u32,
    /// ifindex of the bridge among whose ports it is nobody else's.
    pub scope: u32,
    pub mac: Mac,
    pub vlan: u16,
    pub address: IpAddr,
    pub origin: Origin,
    pub since: Timestamp,
    /// `None` for no end.
    pub expires: Option<Timestamp>,
}

/// A lease that is known from elsewhere than the kernel: from a server's lease file, or from before
/// the host was restarted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KnownLease {
    #[serde(with = "super::vm::mac_text")]
    pub mac: Mac,
    /// VLAN id, 0 for untagged.
    pub vlan: u16,
    /// Name of the bridge; `None` where the source does not say.
    pub bridge: Option<String>,
    pub address: IpAddr,
    /// `None` for no end.
    pub expires: Option<Timestamp>,
    /// Whether it was in a lease file; else it was learned before a restart.
    pub from_file: bool,
}

impl KnownLease {
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|at| now < at)
    }

    pub fn origin(&self) -> Origin {
        if self.from_file { Origin::LeaseFile } else { Origin::Restored }
    }
}
