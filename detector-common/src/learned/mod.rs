//! Addresses that ports learn: by DHCP (RFC 7513) or by being the first to claim one (RFC 6620).
//!
//! An address has one owner on one bridge and VLAN, the entry of `ADDRESS_OWNERS`. Each port has so
//! many places in `LEARNED`, and each place stands for at most one entry, so that no port can use up
//! what another needs. Entries without a port are the network's own: a gateway's, the host's, an
//! address that is granted to another NIC as `exact`.
//!
//! What becomes of them is here too, over a [`Table`] that is the kernel's maps there, and plain maps in
//! the host's tests.

mod dhcp;
mod owners;
#[cfg(any(test, feature = "samples"))]
pub mod plain;
mod routers;
mod table;

#[cfg(test)]
mod tests;

pub use dhcp::{asks, heard, listens, may_renew, told};
pub use owners::{EXTENDED_SECONDS, ask};
pub use routers::{ADVERTISED_SECONDS, ROUTERS_PER_NETWORK, Router, RouterKey, protect};
pub use table::{Living, Refused, Table};

use crate::{
    addr::{Address, Station},
    layout,
    port::PortSlot,
};

/// How long an address that came first stays its owner's after the last frame.
pub const FIRST_COME_SECONDS: u64 = 3600;
/// How long a server may take to answer a DHCP client. Clients send again after at most 64 seconds
/// (RFC 2131, section 4.1), up to 128 with the DHCPv6 retransmission of RFC 8415, section 15.
pub const TRANSACTION_SECONDS: u64 = 128;
/// An expiry that never comes.
pub const NEVER: u64 = u64::MAX;
/// The lease without an end (RFC 2131, section 3.3; RFC 8415, section 7.7).
pub const FOREVER_SECONDS: u32 = u32::MAX;

/// How an owner came by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Origin {
    /// It is no port's: a gateway's, the host's own, one that is granted as `exact`.
    Protected = 0,
    /// A DHCP or DHCPv6 server leased it, and the kernel saw the reply.
    Dhcp = 1,
    /// It was claimed when it was nobody's.
    FirstCome = 2,
    /// It was in the lease file of a server of this host.
    LeaseFile = 3,
    /// It was leased before the host or the schema changed.
    Restored = 4,
    /// The host's neighbour table had it when its VM was taken on.
    Neighbour = 5,
    /// The guest spoke under it in observe mode, and had done so before its VM was taken on.
    Observed = 6,
    /// The guest spoke under it when it came from another host.
    Migrated = 7,
    /// It is no port's, since somebody who is trusted has named it as a router's.
    Router = 8,
}

impl Origin {
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Dhcp,
            2 => Self::FirstCome,
            3 => Self::LeaseFile,
            4 => Self::Restored,
            5 => Self::Neighbour,
            6 => Self::Observed,
            7 => Self::Migrated,
            8 => Self::Router,
            _ => Self::Protected,
        }
    }

    /// Whether the origin of this code is a server's word.
    pub const fn is_lease(code: u32) -> bool {
        matches!(code, 1 | 3 | 4)
    }

    /// Whether the origin of this code is the guest's own word, which gives way to a server's.
    pub const fn is_claim(code: u32) -> bool {
        matches!(code, 2 | 5..=7)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Dhcp => "dhcp",
            Self::FirstCome => "first-come",
            Self::LeaseFile => "lease-file",
            Self::Restored => "restored",
            Self::Neighbour => "neighbour",
            Self::Observed => "observed",
            Self::Migrated => "migrated",
            Self::Router => "router",
        }
    }
}

/// Key of `ADDRESS_OWNERS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct OwnerKey {
    /// IPv4 is IPv4-mapped.
    pub address: Address,
    /// ifindex of the bridge, or of the device that macvtaps are on.
    pub scope: u32,
    /// VLAN id, 0 for untagged.
    pub vlan: u16,
    pub pad: u16,
}

layout!(OwnerKey, size 24, address @ 0, scope @ 16, vlan @ 20, pad @ 22);

/// Value of `ADDRESS_OWNERS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Owner {
    /// `jiffies64` at which the address is nobody's again; [`NEVER`] for no such time.
    pub expires: u64,
    /// `jiffies64` when it was learned.
    pub since: u64,
    /// MAC and VLAN, as [`Station::word`].
    pub station: u64,
    pub ifindex: u32,
    /// The port instance; 0 for what is protected.
    pub instance: u32,
    /// The entry of `LEARNED` that stands for it; none for what is protected.
    pub place: u32,
    /// An [`Origin`] code.
    pub origin: u32,
}

layout!(
    Owner, size 40,
    expires @ 0, since @ 8, station @ 16, ifindex @ 24, instance @ 28, place @ 32, origin @ 36,
);

/// Whose an address is, as seen by somebody who claims it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    Own,
    /// Another's, or nobody may have it.
    Other,
    /// The time of its owner is over.
    Over,
}

impl Owner {
    /// Of an address that no port may learn.
    pub const PROTECTED: Self = Self {
        expires: NEVER,
        since: 0,
        station: 0,
        ifindex: 0,
        instance: 0,
        place: u32::MAX,
        origin: Origin::Protected as u32,
    };

    pub const fn is_protected(&self) -> bool {
        self.instance == 0
    }

    /// Whose it is to a station on a port instance.
    #[inline(always)]
    pub const fn holding(&self, instance: u32, station: Station, now: u64) -> Holding {
        if self.expires <= now {
            Holding::Over
        } else if self.instance == instance && self.station == station.word() {
            Holding::Own
        } else {
            Holding::Other
        }
    }
}

/// An entry of `LEARNED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Place {
    pub key: OwnerKey,
    /// The port instance, so that a former port's places are free; 0 when it is free.
    pub instance: u32,
    pub pad: u32,
}

layout!(Place, size 32, key @ 0, instance @ 24, pad @ 28);

/// An entry of `DHCP_TRANSACTIONS`: what a client of the port has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Transaction {
    /// MAC and VLAN, as [`Station::word`].
    pub station: u64,
    /// `jiffies64` of the latest message.
    pub begun: u64,
    /// The client's number for it: 32 bits in DHCP, 24 in DHCPv6.
    pub id: u32,
    /// The IPv4 address that the client named; 0 for none.
    pub wanted: u32,
    /// The port instance; 0 when the entry is free.
    pub instance: u32,
    /// A [`Family`](crate::claim::Family) code.
    pub family: u32,
}

layout!(
    Transaction, size 32,
    station @ 0, begun @ 8, id @ 16, wanted @ 20, instance @ 24, family @ 28,
);

impl Transaction {
    /// Whether a reply to this station of this port is the answer.
    #[inline(always)]
    pub const fn is_answered_by(&self, reply: &Self, now: u64, hz: u32) -> bool {
        self.instance == reply.instance
            && self.instance != 0
            && self.station == reply.station
            && self.id == reply.id
            && self.family == reply.family
            && now.wrapping_sub(self.begun) <= TRANSACTION_SECONDS * hz as u64
    }
}

/// When a lease that is granted now ends.
#[inline(always)]
pub const fn expiry(seconds: u32, now: u64, hz: u32) -> u64 {
    if seconds == FOREVER_SECONDS {
        return NEVER;
    }
    now.saturating_add(seconds as u64 * hz as u64)
}

/// The key of an address that a station of this port claims.
#[inline(always)]
pub const fn key(slot: &PortSlot, station: Station, address: Address) -> OwnerKey {
    OwnerKey { address, scope: slot.scope(), vlan: station.vlan(), pad: 0 }
}

/// Whether an address can be anybody's: not unspecified, loopback, multicast or reserved.
#[inline(always)]
pub const fn is_learnable(address: Address) -> bool {
    if address.is_mapped() {
        let [first, ..] = address.v4();
        return first != 0 && first != 127 && first < 224;
    }
    !address.is_special() && !address.is_v6_multicast()
}
