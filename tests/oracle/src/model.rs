//! What ports should learn, by the rules of ARCHITECTURE.md ("How addresses are learned"), written out over
//! plain maps. It shares nothing with the product but the identities.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use detector_common::reason::Reason;
use detector_core::reconcile::Identity;

use etherparse::Ipv6HeaderSlice;

use crate::lease::{self, Link, Message, Says, link as link_of};
use crate::{Arrival, Mac, Said, link, not_granted};

const ADDRESSES_OF_A_PORT: usize = 16;
const TRANSACTIONS_OF_A_PORT: usize = 4;
const ANSWERED_WITHIN: u64 = 128;
const FIRST_COME: u64 = 3600;
/// It is not written down with each frame that an address is in use.
const NOTED_EVERY: u64 = 60;
const ROUTERS_OF_A_NETWORK: usize = 8;
/// How long a router is one at the least that says so itself.
const ADVERTISED: u64 = 1800;

/// How somebody has come by an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Leased,
    FirstCome,
    /// For a while, since it spoke under it.
    Lent,
}

/// Who has an address, until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub port: u32,
    pub mac: Mac,
    /// In ticks; `None` for ever.
    pub until: Option<u64>,
    pub word: Word,
}

/// A port, and what is granted to it.
#[derive(Clone, Debug)]
pub struct Port {
    pub identities: Vec<Identity>,
    pub first_come: bool,
    /// Seconds for which it is lent what it speaks under: always, or in observe mode only.
    pub lent_always: u64,
    pub lent_observed: u64,
}

#[derive(Clone, Debug)]
struct Asked {
    client: (Mac, u16),
    id: u32,
    is_v6: bool,
    wanted: Option<Ipv4Addr>,
    at: u64,
}

#[derive(Debug)]
pub struct Model {
    pub ports: BTreeMap<u32, Port>,
    /// Where servers may be besides: the host is 0.
    pub trusted: BTreeSet<u32>,
    pub enforces: bool,
    /// Ticks of a second.
    pub hz: u64,
    pub protected: BTreeSet<(u16, IpAddr)>,
    /// What somebody who is trusted has named as a router, until when.
    routers: BTreeMap<(u16, IpAddr), Option<u64>>,
    held: BTreeMap<(u16, IpAddr), Holder>,
    asked: BTreeMap<u32, Vec<Asked>>,
}

impl Model {
    pub fn new(hz: u64, enforces: bool, ports: BTreeMap<u32, Port>, trusted: &[u32]) -> Self {
        Self {
            ports,
            trusted: trusted.iter().copied().collect(),
            enforces,
            hz,
            protected: BTreeSet::new(),
            routers: BTreeMap::new(),
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// A frame from the guest: what it may be refused for (nothing, if it is granted), and whether it goes
    /// on.
    pub fn send(&mut self, from: u32, arrival: &Arrival, now: u64) -> (BTreeSet<Reason>, bool) {
        let said = link::read(arrival);
        let mut broken = said.broken.clone();
        broken.extend(not_granted(&said, &self.ports[&from].identities));
        // Whose an address is has not been asked yet.
        broken.remove(&Reason::AddressNotLeased);
        if !broken.is_empty() {
            return (broken, !self.enforces);
        }
        let refused = self.claims(from, &said, now);
        let source = said.source.map(|(address, _)| address);
        let renews = said.renews.filter(|_| !said.odd_tag).map(IpAddr::V4);
        let is_renewal = refused == Some(Reason::AddressNotLeased)
            && renews.is_some()
            && source == renews
            && !arrival.in_segments;
        let refused = if is_renewal { None } else { refused };
        let passes = refused.is_none() || !self.enforces;
        // Under another's address it says nothing of its own.
        let own = matches!(refused, None | Some(Reason::AddressNotLeased));
        if passes
            && own
            && !arrival.in_segments
            && let Some(message) = lease::read(&arrival.bytes, in_metadata(arrival))
        {
            self.hears(from, &message, now);
        }
        (refused.into_iter().collect(), passes)
    }

    /// A frame is delivered to the guest that has come in by `source`; 0 for the host's own.
    pub fn deliver(&mut self, source: u32, to: u32, arrival: &Arrival, now: u64) {
        if arrival.in_segments {
            return;
        }
        let beyond = source == 0 || self.trusted.contains(&source);
        if let Some((vlan, router, seconds)) = advertisement(arrival).filter(|_| beyond) {
            let until = Some(now + u64::from(seconds).max(ADVERTISED) * self.hz);
            self.names((vlan, router), until, now);
        }
        if !self.may_serve(source, arrival) {
            return;
        }
        let Some(message) = lease::read(&arrival.bytes, in_metadata(arrival)) else { return };
        let Message { client: (mac, vlan), .. } = message;
        let within = ANSWERED_WITHIN * self.hz;
        let asked = self.asked.get(&to).into_iter().flatten().find(|asked| {
            (asked.client, asked.id, asked.is_v6) == (message.client, message.id, message.is_v6)
                && now - asked.at <= within
        });
        let Some(asked) = asked.cloned() else { return };
        match message.says {
            Says::Leases(leases) => {
                let first_come = self.ports[&to].first_come;
                for (address, seconds) in leases.iter().filter(|_| !first_come) {
                    self.leases(to, mac, (vlan, *address), *seconds, now);
                }
                if let Some((_, seconds)) = leases.first().filter(|(_, seconds)| *seconds != 0) {
                    let until = self.end(*seconds, now);
                    for router in message.routers {
                        self.names((vlan, router.into()), until, now);
                    }
                }
            }
            Says::Refuses if self.ports[&to].first_come => {}
            Says::Refuses => {
                if let Some(wanted) = asked.wanted {
                    self.ends(to, mac, (vlan, IpAddr::V4(wanted)));
                }
            }
            Says::Asks(_) | Says::GivesUp(_) => {}
        }
    }

    pub fn protect(&mut self, vlan: u16, address: IpAddr, protects: bool) {
        if protects {
            self.protected.insert((vlan, address));
            self.held.remove(&(vlan, address));
            self.routers.remove(&(vlan, address));
        } else {
            self.protected.remove(&(vlan, address));
        }
    }

    /// Who has what.
    pub fn held(&self, now: u64) -> BTreeMap<(u16, IpAddr), Holder> {
        self.held.iter().filter(|(_, one)| lasts(one, now)).map(|(key, one)| (*key, *one)).collect()
    }

    /// The routers that are protected, until when.
    pub fn routers(&self, now: u64) -> BTreeMap<(u16, IpAddr), Option<u64>> {
        let lasting = self.routers.iter().filter(|(_, until)| is_ahead(**until, now));
        lasting.map(|(key, until)| (*key, *until)).collect()
    }

    /// An address is a router's, unless somebody has it with more right: by a server's word, or who plays
    /// the router himself.
    fn names(&mut self, key: (u16, IpAddr), until: Option<u64>, now: u64) {
        let routers = self.routers(now);
        if self.protected.contains(&key) || !may_be_somebodys(key.1) {
            return;
        }
        if let Some(known) = routers.get(&key) {
            let longer = match (known, until) {
                (Some(known), Some(until)) => Some(until.max(*known)),
                _ => None,
            };
            self.routers.insert(key, longer);
            return;
        }
        let holder = self.held.get(&key).filter(|one| lasts(one, now));
        if holder.is_some_and(|one| one.word == Word::Leased || self.plays_router(one.port)) {
            return;
        }
        if routers.keys().filter(|(vlan, _)| *vlan == key.0).count() < ROUTERS_OF_A_NETWORK {
            self.held.remove(&key);
            self.routers.insert(key, until);
        }
    }

    fn plays_router(&self, port: u32) -> bool {
        self.ports[&port].identities.iter().any(|one| one.router)
    }

    fn end(&self, seconds: u32, now: u64) -> Option<u64> {
        (seconds != u32::MAX).then(|| now + u64::from(seconds) * self.hz)
    }

    /// Whether the address is a router's that this port does not play.
    fn is_routers(&self, key: (u16, IpAddr), port: u32, now: u64) -> bool {
        self.routers(now).contains_key(&key) && !self.plays_router(port)
    }

    fn may_serve(&self, source: u32, arrival: &Arrival) -> bool {
        if source == 0 || self.trusted.contains(&source) {
            return true;
        }
        let Some(port) = self.ports.get(&source) else { return false };
        let mac = arrival.bytes.get(6..12);
        let vlan = in_metadata(arrival);
        match &port.identities[..] {
            [only] => only.dhcp_server,
            // Of several, the one that sends it has to play the role.
            several => several
                .iter()
                .any(|one| one.dhcp_server && mac == Some(&one.mac.0[..]) && one.vlan == vlan),
        }
    }

    /// Each address that a frame asserts has to be the sender's: why one is not.
    fn claims(&mut self, from: u32, said: &Said, now: u64) -> Option<Reason> {
        let [a, b, c, d, e, f] = said.mac;
        let formed = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
        let source = said.source.map(|(address, _)| address);
        let asserted = source.into_iter().chain(said.target.map(IpAddr::V6));
        let identity = |one: &&Identity| (one.mac.0, one.vlan) == (said.mac, said.vlan);
        let learns = self.ports[&from].identities.iter().find(identity)?.learns.is_some();
        if !learns {
            return None;
        }
        let asserted: Vec<_> = asserted.filter(|one| *one != IpAddr::from(formed)).collect();
        asserted.into_iter().find_map(|one| self.claim(from, said, one, now))
    }

    fn claim(&mut self, from: u32, said: &Said, address: IpAddr, now: u64) -> Option<Reason> {
        let key = (said.vlan, address);
        if self.protected.contains(&key) || self.is_routers(key, from, now) {
            return Some(Reason::AddressTaken);
        }
        let (hour, minute) = (FIRST_COME * self.hz, NOTED_EVERY * self.hz);
        let port = &self.ports[&from];
        let first_come = port.first_come || is_link_local(address);
        match self.held.get_mut(&key).filter(|one| lasts(one, now)) {
            Some(one) if one.port == from && one.mac == said.mac => {
                if one.word == Word::FirstCome && !first_come {
                    return Some(Reason::AddressNotLeased);
                }
                if first_come
                    && one.word != Word::Leased
                    && one.until.is_some_and(|until| until < now + hour - minute)
                {
                    one.until = Some(now + hour);
                }
                return None;
            }
            Some(_) => return Some(Reason::AddressTaken),
            None => {}
        }
        let (word, seconds) = match first_come {
            true => (Word::FirstCome, FIRST_COME),
            false if self.enforces || port.lent_always != 0 => (Word::Lent, port.lent_always),
            false => (Word::Lent, port.lent_observed),
        };
        if seconds == 0 || !may_be_somebodys(address) {
            return Some(Reason::AddressNotLeased);
        }
        if self.is_full(from, now) {
            return Some(Reason::LearnedFull);
        }
        let until = Some(now + seconds * self.hz);
        self.routers.remove(&key);
        self.held.insert(key, Holder { port: from, mac: said.mac, until, word });
        None
    }

    fn hears(&mut self, from: u32, message: &Message, now: u64) {
        let Message { client, id, is_v6, .. } = *message;
        match &message.says {
            Says::Asks(wanted) => {
                let asked = self.asked.entry(from).or_default();
                let same = |one: &Asked| (one.client, one.id, one.is_v6) == (client, id, is_v6);
                asked.retain(|one| !same(one));
                if asked.len() == TRANSACTIONS_OF_A_PORT {
                    asked.sort_by_key(|one| one.at);
                    asked.remove(0);
                }
                asked.push(Asked { client, id, is_v6, wanted: *wanted, at: now });
            }
            Says::GivesUp(addresses) => {
                for address in addresses {
                    self.ends(from, client.0, (client.1, *address));
                }
            }
            Says::Leases(_) | Says::Refuses => {}
        }
    }

    fn leases(&mut self, to: u32, mac: Mac, key: (u16, IpAddr), seconds: u32, now: u64) {
        if seconds == 0 {
            return self.ends(to, mac, key);
        }
        let not_to_be_had = self.protected.contains(&key) || self.is_routers(key, to, now);
        if not_to_be_had || !may_be_somebodys(key.1) {
            return;
        }
        let until = self.end(seconds, now);
        let new = Holder { port: to, mac, until, word: Word::Leased };
        match self.held.get(&key).filter(|one| lasts(one, now)) {
            Some(one) if (one.port, one.mac) == (to, mac) => {}
            Some(one) if one.word == Word::Leased => return,
            _ if self.is_full(to, now) => return,
            _ => {}
        }
        self.routers.remove(&key);
        self.held.insert(key, new);
    }

    /// What a client gives up, or a server ends, ends where it is the client's own.
    fn ends(&mut self, port: u32, mac: Mac, key: (u16, IpAddr)) {
        if self.held.get(&key).is_some_and(|one| (one.port, one.mac) == (port, mac)) {
            self.held.remove(&key);
        }
    }

    fn is_full(&self, port: u32, now: u64) -> bool {
        let own = self.held.values().filter(|one| one.port == port && lasts(one, now));
        own.count() >= ADDRESSES_OF_A_PORT
    }
}

fn lasts(holder: &Holder, now: u64) -> bool {
    is_ahead(holder.until, now)
}

fn is_ahead(until: Option<u64>, now: u64) -> bool {
    until.is_none_or(|until| until > now)
}

/// A router's advertisement (RFC 4861, section 4.2) without extension headers: its VLAN, its link-local
/// address, and for how many seconds it is a default router.
fn advertisement(arrival: &Arrival) -> Option<(u16, IpAddr, u16)> {
    let Link { vlan, kind: 0x86dd, packet } = link_of(&arrival.bytes, in_metadata(arrival))? else {
        return None;
    };
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let message = packet.get(40..56)?;
    let source = header.source_addr();
    let near = header.hop_limit() == 255 && source.is_unicast_link_local();
    let whole = header.payload_length() >= 16 && header.next_header().0 == 58;
    let seconds = u16::from_be_bytes([message[6], message[7]]);
    (near && whole && message[..2] == [134, 0]).then_some((vlan, source.into(), seconds))
}

/// The VLAN that the network stack has put into the metadata: the reserved one, where it is no 802.1Q.
fn in_metadata(arrival: &Arrival) -> u16 {
    match arrival.tag.map(|(kind, tci)| (kind, tci & 0xfff)) {
        None | Some((_, 0)) => 0,
        Some((0x8100, vlan)) => vlan,
        Some(_) => 0xfff,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[..4] == [0xfe80, 0, 0, 0])
}

fn may_be_somebodys(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => crate::ipv4::is_somebodys(v4),
        IpAddr::V6(v6) => !v6.is_multicast() && v6.segments()[..4] != [0; 4],
    }
}
