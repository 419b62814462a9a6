//! The slot that describes one interface to the kernel programs.

use crate::{
    addr::{Address, Mac, Station},
    layout,
    settings::Settings,
};

/// What an interface is to the programs that run on it or look at where a frame came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The slot is free.
    Vacant = 0,
    /// A guest speaks through it; its guard is attached.
    Guest = 1,
    /// It leads out of the host.
    Uplink = 2,
    /// A bridge device: the host's own side of a bridge.
    Bridge = 3,
    /// The host may route its frames into a guarded bridge; no program of ours is attached.
    Trusted = 4,
    /// A guest speaks through it, and it is no bridge port but on a device of its own (macvtap): its
    /// guard is attached the other way round, since what a guest sends leaves such an interface.
    GuestOnDevice = 5,
    /// The bridge device of the sandbox.
    Sandbox = 6,
    /// Guests' macvtaps are on it, and the host speaks by it too: only what comes in under their MACs is
    /// dropped. With [`flags::TRUSTED`] the host may route its frames into a guarded bridge.
    Device = 7,
    /// The same; besides, only known senders speak out of it: what is stamped, and the MACs that `GRANTS` lists
    /// for it, once it has [`flags::MORE_GRANTS`].
    ClosedDevice = 8,
}

impl Role {
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Guest,
            2 => Self::Uplink,
            3 => Self::Bridge,
            4 => Self::Trusted,
            5 => Self::GuestOnDevice,
            6 => Self::Sandbox,
            7 => Self::Device,
            8 => Self::ClosedDevice,
            _ => Self::Vacant,
        }
    }

    /// Whether it is no bridge, and no port of anything: the host's, which frames come from.
    pub const fn is_aside(self) -> bool {
        matches!(self, Self::Trusted | Self::Device | Self::ClosedDevice)
    }

    /// Whether a guest speaks through it.
    pub const fn is_guest(self) -> bool {
        matches!(self, Self::Guest | Self::GuestOnDevice)
    }
}

/// Bits of [`PortSlot::flags`].
pub mod flags {
    /// A verdict grants this port its identity. Without it the port is mute.
    pub const GRANTED: u32 = 1 << 0;
    /// The port is quarantined: it neither sends nor receives.
    pub const ISOLATED: u32 = 1 << 1;
    /// A person quarantined the port: the isolation holds in observe mode too.
    pub const ISOLATED_BY_OPERATOR: u32 = 1 << 2;
    /// IPv4 sources within `v4`/`v4_mask` are granted to the inline MAC.
    pub const V4: u32 = 1 << 3;
    /// IPv6 sources within `v6`/`v6_mask` are granted to the inline MAC.
    pub const V6: u32 = 1 << 4;
    /// The `GRANTS` map holds more MACs, VLANs or exact addresses of this port.
    pub const MORE_GRANTS: u32 = 1 << 5;
    /// The `PREFIXES` map holds more prefixes of this port.
    pub const MORE_PREFIXES: u32 = 1 << 6;
    /// The NIC may answer as a DHCP or DHCPv6 server.
    pub const DHCP_SERVER: u32 = 1 << 7;
    /// The NIC may send what routers do: advertisements, redirects, queries for groups.
    pub const ROUTER: u32 = 1 << 8;
    /// Of a device with macvtaps: the host may route its frames into a bridge.
    pub const TRUSTED: u32 = 1 << 9;
    /// Addresses of the port are learned: those that are granted besides have to be owned too (see
    /// [`learned`](crate::learned)). On the entry of a MAC in `GRANTS`: those of this MAC are.
    pub const LEARNS: u32 = 1 << 10;
    /// With [`LEARNS`]: whoever claims an address first has it. Without, what a DHCP server leases.
    pub const FIRST_COME: u32 = 1 << 11;
    /// In a claim: a DHCP client speaks. No slot has it.
    pub const DHCP_CLIENT: u32 = 1 << 12;
    /// An isolated port speaks under its own MAC with the sandbox, and with nobody else. Never without
    /// [`ISOLATED`].
    pub const SANDBOXED: u32 = 1 << 14;
    /// The NIC may speak for virtual routers (VRRP, RFC 9568).
    pub const VRRP: u32 = 1 << 16;
    /// Some identity of the port has that role: it has more MACs than slot and maps say, those of
    /// virtual routers, which stand for the inline MAC.
    pub const VIRTUAL_MACS: u32 = 1 << 17;
    /// With [`V4`]: the inline MAC is some station's own and untagged, and `v4` is one address that may
    /// be somebody's, so that a frame can be compared with them as it lies in memory.
    pub const EXACT_V4: u32 = 1 << 18;
    /// The same with [`V6`] and `v6`.
    pub const EXACT_V6: u32 = 1 << 19;
    /// With a time for which addresses are lent ([`PortSlot::lends`](super::PortSlot::lends)): the guest
    /// has come from another host. Without, it was there before its port was guarded, and addresses are
    /// lent in observe mode only.
    pub const ARRIVED: u32 = 1 << 20;
    /// What is refused here goes on all the same, also where the host enforces; a person's quarantine holds.
    /// Of a bridge or an uplink as well as of a guest's port.
    pub const OBSERVED: u32 = 1 << 21;
    /// In a datapath of Open vSwitch, where the first frame of each flow goes by way of the switch's daemon
    /// and comes back without the interface that it came in by: what has none has to be stamped. On a
    /// bridge device, an internal port there: what the host sends is stamped.
    pub const SWITCHED: u32 = 1 << 22;
    /// What is not part of a verdict, and is kept when one is written.
    pub const OF_PLACE: u32 = OBSERVED | SWITCHED;
    /// With [`LEARNS`]: some identity of the port plays the router, so that what others have named as a
    /// router's address may be its own.
    pub const ROUTES: u32 = 1 << 23;
    /// With [`SANDBOXED`]: the port reaches what `SERVICES` lists, and hears from nobody else.
    pub const LIMITED: u32 = 1 << 24;
}

/// One interface: array slot `ifindex % PORT_SLOTS` of `PORTS`, or, where two living interfaces
/// share a slot, an entry of `PORT_OVERFLOW`. The common identity, one MAC on one VLAN with at most
/// one prefix of each family, is inline, so that the pass path needs no second look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PortSlot {
    /// The interface that this slot is for; 0 when vacant.
    pub ifindex: u32,
    /// Which life of the interface: never the same for two, so that grants cannot be inherited.
    pub instance: u32,
    /// Dense number of the port, index into counters, budgets and sightings.
    pub id: u16,
    /// A [`Role`] code.
    pub role: u8,
    pub pad: u8,
    /// Bits of [`flags`].
    pub flags: u32,
    /// The inline MAC.
    pub mac: Mac,
    /// The inline VLAN id, 0 for untagged. Of an uplink: the VLAN that its bridge takes untagged frames
    /// for, 0 for none.
    pub vlan: u16,
    /// The inline IPv4 prefix. With [`flags::LEARNS`] there is none, and [`PortSlot::scope`] and
    /// [`PortSlot::lends`] are here.
    pub v4: [u8; 4],
    pub v4_mask: [u8; 4],
    pub v6: Address,
    pub v6_mask: Address,
}

layout!(
    PortSlot, size 64,
    ifindex @ 0, instance @ 4, id @ 8, role @ 10, pad @ 11, flags @ 12, mac @ 16, vlan @ 22,
    v4 @ 24, v4_mask @ 28, v6 @ 32, v6_mask @ 48,
);

impl PortSlot {
    pub const VACANT: Self = Self {
        ifindex: 0,
        instance: 0,
        id: 0,
        role: Role::Vacant as u8,
        pad: 0,
        flags: 0,
        mac: Mac::ZERO,
        vlan: 0,
        v4: [0; 4],
        v4_mask: [0; 4],
        v6: Address::UNSPECIFIED,
        v6_mask: Address::UNSPECIFIED,
    };

    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether the port is quarantined in the sandbox.
    pub const fn is_sandboxed(&self) -> bool {
        self.has(flags::SANDBOXED)
    }

    /// Whether the port speaks under its own identity, be it with the sandbox only.
    pub const fn may_speak(&self) -> bool {
        self.flags & (flags::GRANTED | flags::ISOLATED) == flags::GRANTED || self.is_sandboxed()
    }

    /// Whether frames that came in by the port and are stamped may be delivered: those that are granted, and
    /// those that are refused and go on all the same.
    pub const fn delivers(&self) -> bool {
        self.flags & (flags::GRANTED | flags::ISOLATED) == flags::GRANTED
            || self.flags & (flags::OBSERVED | flags::ISOLATED_BY_OPERATOR) == flags::OBSERVED
    }

    /// Whether what is refused on this interface is dropped; see [`Settings::enforces`].
    #[inline(always)]
    pub fn drops(&self, settings: &Settings, now: impl FnOnce() -> u64) -> bool {
        self.has(flags::ISOLATED_BY_OPERATOR)
            || !self.has(flags::OBSERVED) && settings.enforces(now)
    }

    /// The inline MAC and VLAN.
    #[inline(always)]
    pub fn station(&self) -> Station {
        // SAFETY: the eight bytes from `mac` on 16 on are `mac` and `vlan` (see layout!).
        Station::from_word(unsafe { *core::ptr::from_ref(self).cast::<u64>().add(2) })
    }

    pub const fn role(&self) -> Role {
        Role::from_code(self.role)
    }

    /// The bridge, or the device of a macvtap, on which the addresses that a port learns are nobody else's.
    pub const fn scope(&self) -> u32 {
        u32::from_ne_bytes(self.v4)
    }

    /// For how many seconds a port that learns from DHCP servers is lent an address that is nobody's,
    /// when it speaks under it; 0 for not at all.
    pub const fn lends(&self) -> u32 {
        u32::from_ne_bytes(self.v4_mask)
    }
}

/// Key of `GRANTS`: a MAC on a VLAN (address all zero, which is never granted), or one exact
/// address of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct GrantKey {
    pub ifindex: u32,
    pub instance: u32,
    pub mac: Mac,
    pub vlan: u16,
    /// IPv4 is IPv4-mapped.
    pub address: [u8; 16],
}

layout!(GrantKey, size 32, ifindex @ 0, instance @ 4, mac @ 8, vlan @ 14, address @ 16);

/// Key data of `PREFIXES`, behind the 32-bit prefix length that the kernel's trie wants. Interface,
/// instance, MAC and VLAN are always matched in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct PrefixKey {
    pub ifindex: [u8; 4],
    pub instance: [u8; 4],
    pub mac: Mac,
    pub vlan: [u8; 2],
    pub address: [u8; 16],
}

layout!(PrefixKey, size 32, ifindex @ 0, instance @ 4, mac @ 8, vlan @ 14, address @ 16);

impl PrefixKey {
    /// Bits before the address, which every entry matches in full.
    pub const SCOPE_BITS: u32 = 128;
}

/// Value of `MAC_OWNERS`: the port instance to which the MAC is granted, and whose VM speaks here. The
/// key is a [`Station`]; one on VLAN 0 stands for every VLAN, since the bridge may put its own VLAN on
/// what a port sends untagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MacOwner {
    pub ifindex: u32,
    pub instance: u32,
}

layout!(MacOwner, size 8, ifindex @ 0, instance @ 4);

/// Value of `GRANTS` and `PREFIXES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Grant {
    /// Bits [`flags::V4`] and [`flags::V6`]: any address of that family (on the entry of a MAC);
    /// [`flags::DHCP_SERVER`], [`flags::ROUTER`], [`flags::VRRP`].
    pub flags: u32,
}

layout!(Grant, size 4, flags @ 0);
