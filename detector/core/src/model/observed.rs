use std::collections::{BTreeMap, BTreeSet};

use detector_common::{
    addr::Mac,
    learned::OwnerKey,
    port::{Grant, GrantKey, PortSlot, PrefixKey},
    services::Service,
};

use serde::{Deserialize, Serialize};

use super::{ObservedMode, Quarantine, QuarantineTarget};

/// What the kernel holds, as far as it is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Interfaces with a slot in force, by ifindex.
    pub interfaces: BTreeMap<u32, ObservedInterface>,
    pub quarantines: BTreeMap<QuarantineTarget, Quarantine>,
    /// Addresses that no port may learn.
    pub protected: BTreeSet<OwnerKey>,
    /// What ports in the sandbox may reach there, where that is limited.
    pub services: BTreeSet<Service>,
    /// Those of routers that a DHCP server or they themselves have named, which the kernel protects.
    pub routers: BTreeSet<OwnerKey>,
    /// `None` until settings have been written.
    pub mode: Option<ObservedMode>,
}

/// An interface with a slot in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedInterface {
    pub slot: PortSlot,
    /// Entries of `GRANTS` for this instance.
    pub grants: BTreeMap<GrantKey, Grant>,
    /// Entries of `PREFIXES` for this instance, with the length of the address prefix.
    pub prefixes: BTreeMap<(PrefixKey, u8), Grant>,
    /// `static sticky` forwarding entries that we have put on the port: MAC and VLAN.
    pub forwarding: BTreeSet<(Mac, u16)>,
    /// Entries of `MAC_OWNERS` for this instance: MAC and VLAN.
    pub defended: BTreeSet<(Mac, u16)>,
    pub shield: Shield,
    /// The passage to the sandbox, while it is whole.
    pub passage: Option<Passage>,
}

/// A veth pair between a port and the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// ifindex of the end that is ours.
    pub inner: u32,
    /// ifindex of the bridge that the other end is a port of.
    pub bridge: u32,
}

/// Whether frames of a port end before there is a buffer for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shield {
    #[default]
    Off,
    On,
    /// This kind of interface takes none, or has a program of somebody else's in its place.
    Refused,
}
