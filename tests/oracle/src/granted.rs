//! Identities for ports, and what the product makes of them.

use detector_common::addr::Mac;
use detector_common::frame::Frame;
use detector_common::parse::{Claim, MetaTag};
use detector_common::port::{Grant, GrantKey, PortSlot, PrefixKey, Role, flags};
use detector_common::reason::Reason;
use detector_common::samples::{IP_A, IP_B, IP6_A, MAC_A, MAC_B};
use detector_common::verdict::{self, Grants};
use detector_core::reconcile::{AddressSet, GrantEntry, Identity, SlotEntry, compile};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::{Arrival, Port};

/// Ports of every kind: granted inline and by maps, by each address rule, with and without roles.
pub fn ports() -> Vec<(&'static str, Port)> {
    let v4 = |address: [u8; 4], length| Ipv4Net::new_assert(address.into(), length).trunc();
    let v6 = |address: [u8; 16], length| Ipv6Net::new_assert(address.into(), length).trunc();
    let exact = Identity {
        mac: Mac(MAC_A),
        vlan: 0,
        v4: AddressSet::Only(vec![v4(IP_A, 32)]),
        v6: AddressSet::Only(vec![v6(IP6_A, 128)]),
        learns: None,
        dhcp_server: false,
        router: false,
        vrrp: false,
    };
    let any = Identity { v4: AddressSet::Any, v6: AddressSet::Any, ..exact.clone() };
    let none = AddressSet::Only(Vec::new());
    let several = Identity {
        v4: AddressSet::Only(vec![v4([10, 0, 0, 0], 8), v4(IP_A, 32)]),
        v6: AddressSet::Only(vec![v6([0xfd; 16], 48), v6(IP6_A, 128)]),
        ..exact.clone()
    };
    let on = |vlan, identity: &Identity| Identity { vlan, ..identity.clone() };
    let b = Identity {
        mac: Mac(MAC_B),
        v4: AddressSet::Only(vec![v4(IP_B, 24)]),
        v6: AddressSet::Any,
        ..exact.clone()
    };
    let roles = |identity: &Identity| Identity {
        dhcp_server: true,
        router: true,
        vrrp: true,
        ..identity.clone()
    };
    vec![
        ("exact", Port::Granted(vec![exact.clone()])),
        (
            "prefix",
            Port::Granted(vec![Identity {
                v4: AddressSet::Only(vec![v4(IP_A, 24)]),
                v6: AddressSet::Only(vec![v6(IP6_A, 64)]),
                ..exact.clone()
            }]),
        ),
        ("any", Port::Granted(vec![any.clone()])),
        ("no addresses", Port::Granted(vec![Identity { v4: none.clone(), ..exact.clone() }])),
        (
            "IPv4 only",
            Port::Granted(vec![Identity { v6: AddressSet::Only(vec![]), ..any.clone() }]),
        ),
        ("on a VLAN", Port::Granted(vec![on(5, &exact)])),
        ("several addresses", Port::Granted(vec![several.clone()])),
        ("several VLANs", Port::Granted(vec![exact.clone(), on(5, &any), on(7, &several)])),
        ("several MACs", Port::Granted(vec![several.clone(), on(7, &any), b.clone()])),
        ("all roles", Port::Granted(vec![roles(&exact)])),
        ("all roles, any address", Port::Granted(vec![roles(&any)])),
        ("router", Port::Granted(vec![Identity { router: true, ..exact.clone() }])),
        ("virtual router", Port::Granted(vec![Identity { vrrp: true, ..exact.clone() }])),
        ("roles on one VLAN", Port::Granted(vec![several, roles(&on(5, &exact)), b])),
        ("pending", Port::Pending),
        ("isolated", Port::Isolated),
    ]
}

/// What the kernel would hold for a port.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub slot: SlotEntry,
    pub entries: Vec<GrantEntry>,
}

impl Compiled {
    pub fn new(port: &Port) -> Self {
        let (slot, entries) = match port {
            Port::Granted(identities) => compile(identities),
            Port::Pending => (SlotEntry::default(), Vec::new()),
            Port::Isolated => {
                (SlotEntry { flags: flags::ISOLATED, ..SlotEntry::default() }, Vec::new())
            }
        };
        Self { slot, entries }
    }

    /// The slot of an interface.
    pub fn port_slot(&self, ifindex: u32, instance: u32) -> PortSlot {
        let SlotEntry { flags, mac, vlan, v4, v4_mask, v6, v6_mask } = self.slot;
        PortSlot {
            ifindex,
            instance,
            role: Role::Guest as u8,
            flags,
            mac: Mac(mac),
            vlan,
            v4,
            v4_mask,
            v6: v6_address(v6),
            v6_mask: v6_address(v6_mask),
            ..PortSlot::VACANT
        }
    }

    /// What the guard would say, first at first sight and then in whole. Its two parts must agree.
    pub fn verdict(&self, arrival: &Arrival) -> Reason {
        let slot = self.port_slot(3, 9);
        let tag = arrival.tag.map_or_else(MetaTag::default, |(kind, tci)| MetaTag::of(kind, tci));
        let whole = Frame::new(&arrival.bytes).with_segments(arrival.in_segments);
        let reason = verdict::vet(whole, tag, &slot, self, &mut Claim::default());
        let plain = Frame::new(&arrival.bytes);
        if arrival.tag.is_none() && verdict::passes_at_a_glance(plain, &slot) {
            assert_eq!(reason, Reason::Granted, "at a glance, and in whole: {arrival:02x?}");
        }
        if let Some(sight) = verdict::vet_plain(plain, tag, &slot, self, &mut Claim::default()) {
            assert_eq!(sight, reason, "at first sight, and in whole: {arrival:02x?}");
        }
        reason
    }
}

fn v6_address(bytes: [u8; 16]) -> detector_common::addr::Address {
    detector_common::addr::Address::from_bytes(bytes)
}

impl Grants for Compiled {
    fn grant(&self, key: &GrantKey) -> Option<Grant> {
        let wanted = (key.mac.0, key.vlan, key.address);
        let listed = self.entries.iter().filter(|entry| entry.prefix.is_none());
        listed
            .filter(|entry| (entry.mac, entry.vlan, entry.address) == wanted)
            .map(|entry| Grant { flags: entry.flags })
            .next()
    }

    fn prefix(&self, key: &PrefixKey) -> Option<Grant> {
        let wanted = u128::from_be_bytes(key.address);
        let covers = |entry: &&GrantEntry| {
            let Some(length) = entry.prefix else { return false };
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            (Mac(entry.mac), entry.vlan.to_ne_bytes()) == (key.mac, key.vlan)
                && u128::from_be_bytes(entry.address) & mask == wanted & mask
        };
        self.entries.iter().find(covers).map(|entry| Grant { flags: entry.flags })
    }
}
