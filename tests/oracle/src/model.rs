//! What ports should learn, by the rules of ARCHITECTURE.md ("How addresses are learned"), written out over
//! plain maps. It shares nothing with the product but the identities.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use detector_common::reason::Reason;
use detector_core::reconcile::Identity;

use crate::lease::{self, Message, Says};
use crate::{Arrival, Mac, Said, link, not_granted};

const ADDRESSES_OF_A_PORT: usize = 16;
const TRANSACTIONS_OF_A_PORT: usize = 4;
const ANSWERED_WITHIN: u64 = 128;
const FIRST_COME: u64 = 3600;
/// It is not written down with each frame that an address is in use.
const NOTED_EVERY: u64 = 60;

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
        if self.ports[&to].first_come || arrival.in_segments || !self.may_serve(source, arrival) {
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
                for (address, seconds) in leases {
                    self.leases(to, mac, (vlan, address), seconds, now);
                }
            }
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
        } else {
            self.protected.remove(&(vlan, address));
        }
    }

    /// Who has what.
    pub fn held(&self, now: u64) -> BTreeMap<(u16, IpAddr), Holder> {
        self.held.iter().filter(|(_, one)| lasts(one, now)).map(|(key, one)| (*key, *one)).collect()
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
        if self.protected.contains(&key) {
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
        if self.protected.contains(&key) || !may_be_somebodys(key.1) {
            return;
        }
        let until = (seconds != u32::MAX).then(|| now + u64::from(seconds) * self.hz);
        let new = Holder { port: to, mac, until, word: Word::Leased };
        match self.held.get(&key).filter(|one| lasts(one, now)) {
            Some(one) if (one.port, one.mac) == (to, mac) => {}
            Some(one) if one.word == Word::Leased => return,
            _ if self.is_full(to, now) => return,
            _ => {}
        }
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
    holder.until.is_none_or(|until| until > now)
}

/// The VLAN that the network stack has put into the metadata.
fn in_metadata(arrival: &Arrival) -> u16 {
    arrival.tag.map_or(0, |(_, tci)| tci & 0xfff)
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
