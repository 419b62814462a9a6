//! What the guard should say, written a second time: frames are taken apart by a library that shares
//! no code with the product's parser, and the rules stand here one after another, as sets of what a
//! frame breaks. Slow and plain on purpose.
//!
//! The rules come from docs/attack-cases.md and docs/reasons.md. A frame passes when it breaks none. When it
//! breaks several, the product may name any of them; when it breaks one, it must name that one.

pub mod bridge;
pub mod dice;
pub mod frames;
pub mod granted;
mod ipv4;
mod ipv6;
pub mod learned;
pub mod lease;
mod link;
pub mod model;
mod options;
pub mod services;
pub mod talk;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use detector_common::reason::Reason;
use detector_common::samples::MAC_A;
use detector_core::reconcile::{AddressSet, Identity};

type Mac = [u8; 6];

/// A frame as it comes to the guard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Arrival {
    pub bytes: Vec<u8>,
    /// The outermost tag, where the network stack has taken it out of the frame: type, and priority with
    /// VLAN id.
    pub tag: Option<(u16, u16)>,
    /// The host will cut the frame into segments.
    pub in_segments: bool,
}

/// What is in force for a port.
#[derive(Clone, Debug)]
pub enum Port {
    Pending,
    Isolated,
    /// Sorted by MAC and VLAN, each pair once.
    Granted(Vec<Identity>),
}

/// The rules that the frame breaks; none when it passes.
pub fn broken(arrival: &Arrival, port: &Port) -> BTreeSet<Reason> {
    Reading::of(arrival).broken(port)
}

/// A frame that has been taken apart, to be judged at one port or many.
#[derive(Debug)]
pub struct Reading(Said);

impl Reading {
    pub fn of(arrival: &Arrival) -> Self {
        Self(link::read(arrival))
    }

    /// The rules that the frame breaks at this port.
    pub fn broken(&self, port: &Port) -> BTreeSet<Reason> {
        let said = &self.0;
        match port {
            Port::Isolated => [Reason::PortIsolated].into(),
            // What cannot be read may be said to be so first.
            Port::Pending => said
                .broken
                .iter()
                .copied()
                .filter(|reason| *reason == Reason::Truncated)
                .chain([Reason::PortPending])
                .collect(),
            Port::Granted(identities) => {
                let mut broken = said.broken.clone();
                broken.extend(not_granted(said, identities));
                broken
            }
        }
    }
}

/// What was read of a frame.
#[derive(Debug, Default)]
struct Said {
    /// Rules that are broken whatever is granted.
    broken: BTreeSet<Reason>,
    mac: Mac,
    vlan: u16,
    /// The source address, and the reason that goes with another's.
    source: Option<(IpAddr, Reason)>,
    /// The address that a neighbour discovery message says is the sender's.
    target: Option<Ipv6Addr>,
    /// It is nothing but a client's request to prolong the lease of this address.
    renews: Option<Ipv4Addr>,
    /// There is a tag in it that DHCP messages are not looked for behind.
    odd_tag: bool,
    /// The reasons that go with roles not played.
    roles: BTreeSet<Reason>,
}

impl Said {
    fn breaks(&mut self, reason: Reason) {
        self.broken.insert(reason);
    }

    fn plays(&mut self, role: Reason) {
        self.roles.insert(role);
    }

    /// A hardware address inside the frame: the sender's own, or that of a virtual router for which it
    /// speaks.
    fn names(&mut self, mac: &[u8], reason: Reason) {
        if is_virtual_router(mac) && mac != self.mac {
            self.plays(Reason::VrrpRole);
        } else if mac != self.mac {
            self.breaks(reason);
        }
    }
}

/// RFC 9568, section 7.3.
fn is_virtual_router(mac: &[u8]) -> bool {
    mac.starts_with(&[0, 0, 0x5e, 0, 1]) || mac.starts_with(&[0, 0, 0x5e, 0, 2])
}

fn not_granted(said: &Said, identities: &[Identity]) -> BTreeSet<Reason> {
    // A virtual router speaks for the first MAC of the port.
    let stands_in = is_virtual_router(&said.mac) && identities.iter().any(|i| i.vrrp);
    let mac = if stands_in { identities[0].mac.0 } else { said.mac };
    let Some(identity) = identities.iter().find(|i| i.mac.0 == mac && i.vlan == said.vlan) else {
        let known = identities.iter().any(|identity| identity.mac.0 == mac);
        // Of several MACs, the guard knows only the first by its VLANs.
        let first = identities[0].mac.0 == mac;
        let reasons = [(known, Reason::VlanNotGranted), (!first, Reason::MacNotGranted)];
        return reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect();
    };
    let mut broken = said.roles.clone();
    if stands_in {
        broken.insert(Reason::VrrpRole);
    }
    broken.retain(|role| match role {
        Reason::DhcpServerRole => !identity.dhcp_server,
        Reason::RouterRole => !identity.router,
        _ => !identity.vrrp,
    });
    match said.source {
        Some((IpAddr::V4(address), reason)) if !has_v4(identity, address) => {
            broken.insert(reason);
        }
        Some((IpAddr::V6(address), reason)) if !has_v6(identity, address) => {
            broken.insert(reason);
        }
        _ => {}
    }
    if said.target.is_some_and(|target| !has_v6(identity, target)) {
        broken.insert(Reason::NdTarget);
    }
    if identity.learns.is_some() {
        let source = said.source.map(|(address, _)| address);
        let target = said.target.map(IpAddr::V6);
        let renews = said.renews.filter(|_| !said.odd_tag).map(IpAddr::V4);
        let mut asserted = source.into_iter().chain(target);
        if asserted.any(|one| !is_leased(identity, one) && Some(one) != renews) {
            broken.insert(Reason::AddressNotLeased);
        }
    }
    broken
}

/// Whether a NIC whose rule is `dhcp` has the address: by a lease, or because it is link-local, where who
/// comes first has it.
fn is_leased(identity: &Identity, address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.segments()[..4] == [0xfe80, 0, 0, 0],
    };
    let is_a = (identity.mac.0, identity.vlan) == (MAC_A, 0);
    link_local || (is_a && learned::leases().contains(&address))
}

fn has_v4(identity: &Identity, address: Ipv4Addr) -> bool {
    match &identity.v4 {
        AddressSet::Any => true,
        AddressSet::Only(nets) => nets.iter().any(|net| net.contains(&address)),
    }
}

fn has_v6(identity: &Identity, address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f] = identity.mac.0;
    let own = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    match &identity.v6 {
        AddressSet::Any => true,
        // Bounds are for what is leased.
        AddressSet::Only(_) if identity.learns.is_some() && address.octets()[..8] == own[..8] => {
            true
        }
        AddressSet::Only(nets) => {
            nets.iter().any(|net| net.contains(&address)) || address.octets() == own
        }
    }
}
