use detector_common::{
    addr::{Address, Mac},
    learned::OwnerKey,
    services::Service,
};
use serde::{Deserialize, Serialize};

use crate::model::{ModeRecord, Quarantine, QuarantineTarget, Timestamp};

/// One primitive step on the kernel. Plain data, so that it can cross a process boundary, be logged
/// and be compared; carrying one out twice is the same as once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    SetMode(ModeRecord),
    /// Give the interface a new instance and a mute slot, then attach the guard.
    AttachGuard {
        ifindex: u32,
        name: String,
    },
    /// Give the uplink a slot, then attach its gate.
    AttachUplink {
        ifindex: u32,
        name: String,
    },
    /// Give the bridge device a slot, then attach its gate.
    AttachBridge {
        ifindex: u32,
        name: String,
    },
    /// Give the bridge device of the sandbox a slot, then attach its boundary.
    AttachSandbox {
        ifindex: u32,
        name: String,
    },
    /// Give the interface a slot; nothing is attached.
    Trust {
        ifindex: u32,
        name: String,
    },
    /// Give a device with macvtaps a slot, or turn that of a trusted interface into one, then attach what
    /// drops clones of their MACs; on a closed one also what drops unknown senders, once they are listed.
    AttachDevice {
        ifindex: u32,
        name: String,
        trusted: bool,
        closed: bool,
    },
    /// Detach what is ours from the interface if it still exists, and free its slot and grants.
    Release {
        ifindex: u32,
    },
    /// Let go on what is refused on the interface, or drop it again, where the host enforces.
    SetObserved {
        ifindex: u32,
        instance: u32,
        observed: bool,
    },
    /// Take the interface for one in a datapath of Open vSwitch, or no longer.
    SetSwitched {
        ifindex: u32,
        instance: u32,
        switched: bool,
    },
    /// Add entries beyond the inline identity. Comes before the `WriteSlot` that makes them count.
    PutGrants {
        ifindex: u32,
        instance: u32,
        grants: Vec<GrantEntry>,
    },
    /// Write the slot of a guest port: this is the moment at which a verdict is in force. The
    /// interpreter keeps ifindex, instance, id and the flags of its place, and refuses when the instance is another.
    WriteSlot {
        ifindex: u32,
        instance: u32,
        slot: SlotEntry,
    },
    /// Make the port the owner of addresses that are known already, as far as they are nobody's.
    /// Comes before the `WriteSlot` with which it begins to learn.
    Teach {
        ifindex: u32,
        instance: u32,
        seeds: Vec<SeedEntry>,
    },
    /// Remove entries. Comes after the `WriteSlot` that no longer needs them.
    DropGrants {
        ifindex: u32,
        instance: u32,
        grants: Vec<GrantEntry>,
    },
    /// Put a `static sticky` forwarding entry on the bridge port.
    PinForwarding {
        ifindex: u32,
        #[serde(with = "crate::model::vm::mac_text")]
        mac: Mac,
        vlan: u16,
    },
    /// Remove such an entry.
    UnpinForwarding {
        ifindex: u32,
        #[serde(with = "crate::model::vm::mac_text")]
        mac: Mac,
        vlan: u16,
    },
    /// Nobody outside has the MAC: frames that come in under it by an uplink are dropped.
    DefendMac {
        ifindex: u32,
        instance: u32,
        #[serde(with = "crate::model::vm::mac_text")]
        mac: Mac,
        vlan: u16,
    },
    /// Let frames under the MAC come in, if this instance has had it defended.
    YieldMac {
        ifindex: u32,
        instance: u32,
        #[serde(with = "crate::model::vm::mac_text")]
        mac: Mac,
        vlan: u16,
    },
    /// Drop every frame of the port before there is a buffer for it, for as long as its slot says
    /// that it is isolated. An interface that takes no shield stays without.
    PutShield {
        ifindex: u32,
        instance: u32,
    },
    /// Take the shield off.
    DropShield {
        ifindex: u32,
        instance: u32,
    },
    /// Make the bridge of the sandbox, with nothing on it; one that is there stays as it is. What it is to the kernel
    /// programs follows once it is seen.
    MakeSandbox {
        name: String,
    },
    /// Make a veth pair between the port and the bridge of the sandbox. Comes after the `WriteSlot`
    /// that isolates the port: without a passage everything is dropped.
    OpenPassage {
        ifindex: u32,
        instance: u32,
        /// ifindex of the bridge.
        bridge: u32,
    },
    /// Remove the pair.
    ClosePassage {
        ifindex: u32,
        instance: u32,
    },
    /// Let no port learn these addresses; a port that has one loses it.
    Protect {
        entries: Vec<ProtectedEntry>,
    },
    /// Let ports learn these addresses again.
    Unprotect {
        entries: Vec<ProtectedEntry>,
    },
    /// Let ports in the sandbox reach these. Comes before the `WriteSlot` that lets them reach nothing else.
    OfferServices {
        entries: Vec<ServiceEntry>,
    },
    /// They do not reach these any more.
    WithdrawServices {
        entries: Vec<ServiceEntry>,
    },
    PutQuarantine(Quarantine),
    /// What a person had quarantined is quarantined as it was before, from one moment to the next.
    GiveQuarantineBack(Quarantine),
    LiftQuarantine(QuarantineTarget),
}

/// What a [`Action::WriteSlot`] sets of a slot: flags and inline identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotEntry {
    /// Bits of [`detector_common::port::flags`].
    pub flags: u32,
    pub mac: [u8; 6],
    pub vlan: u16,
    pub v4: [u8; 4],
    pub v4_mask: [u8; 4],
    pub v6: [u8; 16],
    pub v6_mask: [u8; 16],
}

/// An entry of `GRANTS` (no `prefix`) or of `PREFIXES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GrantEntry {
    pub mac: [u8; 6],
    pub vlan: u16,
    /// IPv4 is IPv4-mapped; all zero is the MAC itself.
    pub address: [u8; 16],
    /// Length of the address prefix in bits, counted on the mapped address.
    pub prefix: Option<u8>,
    /// Bits of [`detector_common::port::flags`].
    pub flags: u32,
}

/// An address that a port has before it learns one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeedEntry {
    pub mac: [u8; 6],
    pub vlan: u16,
    /// ifindex of the bridge.
    pub scope: u32,
    /// IPv4 is IPv4-mapped.
    pub address: [u8; 16],
    /// `None` for no end.
    pub expires: Option<Timestamp>,
    /// A code of [`detector_common::learned::Origin`].
    pub origin: u32,
}

/// An address that is protected on a bridge and VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProtectedEntry {
    /// ifindex of the bridge.
    pub scope: u32,
    pub vlan: u16,
    /// IPv4 is IPv4-mapped.
    pub address: [u8; 16],
}

/// Something that ports in the sandbox may reach there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// IPv4 is IPv4-mapped.
    pub address: [u8; 16],
    /// As [`Service::raw`] has it.
    pub what: u64,
}

impl From<Service> for ServiceEntry {
    fn from(service: Service) -> Self {
        let (address, what) = service.raw();
        Self { address, what }
    }
}

impl From<ServiceEntry> for Service {
    fn from(entry: ServiceEntry) -> Self {
        Self::from_raw(entry.address, entry.what)
    }
}

impl From<OwnerKey> for ProtectedEntry {
    fn from(key: OwnerKey) -> Self {
        Self { scope: key.scope, vlan: key.vlan, address: key.address.bytes() }
    }
}

impl From<ProtectedEntry> for OwnerKey {
    fn from(entry: ProtectedEntry) -> Self {
        let ProtectedEntry { scope, vlan, address } = entry;
        Self { address: Address::from_bytes(address), scope, vlan, pad: 0 }
    }
}
