//! Addresses that ports learn: by DHCP (RFC 7513) or by being the first to claim one (RFC 6620).
//!
//! An address has one owner on one bridge and VLAN, the entry of `ADDRESS_OWNERS`. Each port has so
//! many places in `LEARNED`, and each place stands for at most one entry, so that no port can use up
//! what another needs. Entries without a port are the network's own: a gateway's, the host's, an
//! address that is granted to another NIC as `exact`.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Mac;

    #[test]
    fn an_address_is_held_until_it_expires() {
        let station = Station::new(Mac([2, 0, 0, 0, 0, 1]), 5);
        let owner =
            Owner { expires: 100, station: station.word(), instance: 7, ..Owner::default() };
        let cases = [
            (7, station, 99, Holding::Own),
            (7, station, 100, Holding::Over),
            (8, station, 99, Holding::Other),
            (7, station.on_vlan(6), 99, Holding::Other),
            (8, station, 101, Holding::Over),
        ];
        for (instance, station, now, expect) in cases {
            assert_eq!(owner.holding(instance, station, now), expect, "{instance} {now}");
        }
        assert_eq!(Owner::PROTECTED.holding(7, station, u64::MAX - 1), Holding::Other);
        // Whoever has no instance cannot have what is protected.
        assert_eq!(Owner::PROTECTED.holding(0, Station::default(), 1), Holding::Own);
        assert!(Owner::PROTECTED.is_protected() && !owner.is_protected());
    }

    #[test]
    fn a_reply_answers_one_transaction() {
        let begun =
            Transaction { station: 1, begun: 1000, id: 0xabcd, wanted: 0, instance: 3, family: 4 };
        let last = 1000 + TRANSACTION_SECONDS * 250;
        let cases = [
            (begun, last, true),
            (begun, last + 1, false),
            (Transaction { wanted: 9, begun: 0, ..begun }, 1000, true),
            (Transaction { id: 0xabce, ..begun }, 1000, false),
            (Transaction { station: 2, ..begun }, 1000, false),
            (Transaction { instance: 4, ..begun }, 1000, false),
            (Transaction { family: 6, ..begun }, 1000, false),
        ];
        for (reply, now, expect) in cases {
            assert_eq!(begun.is_answered_by(&reply, now, 250), expect, "{reply:?}");
        }
        let free = Transaction::default();
        assert!(!free.is_answered_by(&free, 0, 250));
    }

    #[test]
    fn leases_end_when_the_server_says() {
        assert_eq!(expiry(10, 1000, 250), 3500);
        assert_eq!(expiry(0, 1000, 250), 1000);
        assert_eq!(expiry(u32::MAX, 1000, 250), NEVER);
        assert_eq!(expiry(u32::MAX - 1, u64::MAX - 5, 1000), u64::MAX);
    }

    #[test]
    fn an_origin_is_a_servers_word_or_the_guests() {
        for code in 0..16 {
            let origin = Origin::from_code(code);
            assert!(origin as u32 == code || origin == Origin::Protected, "{code}");
            let (lease, claim) = (Origin::is_lease(code), Origin::is_claim(code));
            assert_eq!(lease || claim, origin != Origin::Protected, "{origin:?}");
            assert!(!(lease && claim), "{origin:?}");
        }
    }

    #[test]
    fn some_addresses_are_nobodys() {
        let cases = [
            ("192.0.2.7", true),
            ("0.0.0.0", false),
            ("127.0.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
        ];
        for (text, expect) in cases {
            let v4: std::net::Ipv4Addr = text.parse().unwrap();
            assert_eq!(is_learnable(Address::mapped(v4.octets())), expect, "{text}");
        }
        let cases = [("2001:db8::1", true), ("fe80::1", true), ("::", false), ("::1", false)];
        for (text, expect) in cases.into_iter().chain([("ff02::1", false), ("::7", false)]) {
            let v6: std::net::Ipv6Addr = text.parse().unwrap();
            assert_eq!(is_learnable(v6.into()), expect, "{text}");
        }
    }
}
