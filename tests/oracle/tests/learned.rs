//! What ports learn in the long run: clients, servers true and false, claims and time by chance, at two to
//! four ports. After each step the product has learned what the written-out rules say, and nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use detector_common::addr::Mac as Address;
use detector_common::learned::{NEVER, Origin};
use detector_common::port::{PortSlot, Role};
use detector_common::reason::Reason;
use detector_common::samples::{
    BROADCAST, UDP, arp, ethernet, icmp6, ipv4, ipv6, link_layer, neighbour, udp,
};
use detector_common::settings::{Mode, Settings};
use detector_core::reconcile::{AddressSet, Identity, Learning, LearningRule, Lending};
use detector_oracle::bridge::{Bridge, Interface};
use detector_oracle::dice::Dice;
use detector_oracle::granted::Compiled;
use detector_oracle::model::{Holder, Model, Port, Word};
use detector_oracle::{Arrival, frames, talk};
use ipnet::{Ipv4Net, Ipv6Net};

/// Fixed, so that a difference comes back; printed with it.
const SEED: u64 = 0x0dec_1de5;
const STORIES: u64 = 2_000;
const STEPS: usize = 400;
const HZ: u32 = 100;
const SCOPE: u32 = 5;
const UPLINK: u32 = 90;
const TRUSTED: u32 = 91;
const STRANGER: u32 = 92;
/// The interface of the first port.
const FIRST: u32 = 10;
type Mac = [u8; 6];

#[test]
fn ports_learn_what_the_rules_say() {
    let mut seen = BTreeMap::new();
    for story in 0..STORIES {
        Story::new(SEED + story).run(&mut seen);
    }
    println!("seed {SEED:#x}: {STORIES} stories of {STEPS} steps");
    for (what, count) in &seen {
        println!("{count:>12} {what}");
    }
    // Agreement on what never came about shows nothing.
    for what in [
        "address-taken",
        "address-not-leased",
        "learned-full",
        "granted",
        "leased",
        "lent",
        "first-come",
        "leased after first-come",
        "ended",
        "over",
        "renewed",
        "prolonged",
        "router named",
        "router over",
        "eight routers",
    ] {
        let count = seen.get(what).copied().unwrap_or_default();
        assert!(count > 100, "{what} was hardly ever seen: {count}");
    }
}

struct Story {
    seed: u64,
    dice: Dice,
    now: u64,
    bridge: Bridge,
    model: Model,
    /// The MACs of each port, and the VLANs that they are on.
    stations: BTreeMap<u32, Vec<(Mac, u16)>>,
    /// Whether guests claim more addresses than a port can have.
    crowded: bool,
    steps: Vec<String>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed * 2 + 1);
        let enforces = !dice.once_in(4);
        let mode = if enforces { Mode::Enforce } else { Mode::Observe };
        let settings = Settings { mode: mode as u32, hz: HZ, ..Settings::DEFAULT };
        let (mut interfaces, mut ports) = (Vec::new(), BTreeMap::new());
        let mut stations = BTreeMap::new();
        for number in 0..2 + dice.roll(3) as u32 {
            let port = port(&mut dice, number);
            let granted = Compiled::new(&detector_oracle::Port::Granted(port.identities.clone()));
            let mut slot = granted.port_slot(FIRST + number, 100 + number);
            slot.id = number as u16;
            interfaces.push(Interface { slot, granted });
            let of = port.identities.iter().map(|one| (one.mac.0, one.vlan)).collect::<Vec<_>>();
            stations.insert(slot.ifindex, of);
            ports.insert(slot.ifindex, port);
        }
        let known = [(UPLINK, Role::Uplink), (TRUSTED, Role::Trusted), (STRANGER, Role::Bridge)];
        for (ifindex, role) in known {
            let slot = PortSlot { ifindex, role: role as u8, ..PortSlot::VACANT };
            let granted = Compiled::new(&detector_oracle::Port::Pending);
            interfaces.push(Interface { slot, granted });
        }
        let crowded = dice.once_in(4);
        Self {
            seed,
            dice,
            crowded,
            now: 1_000_000,
            bridge: Bridge::new(SCOPE, settings, interfaces),
            model: Model::new(HZ.into(), enforces, ports, &[UPLINK, TRUSTED]),
            stations,
            steps: Vec::new(),
        }
    }

    fn run(mut self, seen: &mut BTreeMap<String, u64>) {
        for _ in 0..STEPS {
            let before = self.model.held(self.now);
            let known = self.model.routers(self.now);
            self.step(seen);
            let after = self.model.held(self.now);
            for (name, count) in changes(&before, &after) {
                *seen.entry(name.to_owned()).or_default() += count;
            }
            let routers = self.model.routers(self.now);
            let named = routers.keys().filter(|key| !known.contains_key(*key)).count();
            let over = known.keys().filter(|key| !routers.contains_key(*key)).count();
            for (name, count) in [("router named", named), ("router over", over)] {
                *seen.entry(name.to_owned()).or_default() += count as u64;
            }
            let full = routers.keys().filter(|(vlan, _)| *vlan == 0).count() == 8;
            *seen.entry("eight routers".to_owned()).or_default() += u64::from(full);
            self.compare(&after);
        }
    }

    fn step(&mut self, seen: &mut BTreeMap<String, u64>) {
        // Time never stands still, so that of two requests one is the older.
        self.now += 1;
        match self.dice.roll(24) {
            0 if !self.crowded || self.dice.once_in(4) => {
                let seconds = self.dice.pick(&[1, 30, 59, 61, 127, 129, 600, 1800, 3601, 7200]);
                self.note(&format!("{seconds} seconds pass"));
                self.now += seconds * u64::from(HZ);
            }
            1 => {
                let (address, vlan) = (self.address(), self.dice.mostly(&[0, 5]));
                let protects = self.dice.once_in(3);
                self.note(&format!("{address} on {vlan} is protected: {protects}"));
                self.bridge.protect(vlan, address, protects);
                self.model.protect(vlan, address, protects);
            }
            2 if self.dice.once_in(8) => {
                let port = self.port();
                let first_come = self.dice.once_in(2);
                self.note(&format!("the rule of {port} is first-come: {first_come}"));
                self.bridge.set_first_come(port, first_come);
                if let Some(port) = self.model.ports.get_mut(&port) {
                    port.first_come = first_come;
                }
            }
            0 | 2..=12 => {
                let from = self.port();
                let arrival = self.frame_of_guest(from);
                self.note(&format!("port {from} sends {arrival:02x?}"));
                let said = self.bridge.send(from, &arrival, self.now);
                let rules = self.model.send(from, &arrival, self.now);
                let agrees = match said.0 {
                    Reason::Granted => rules.0.is_empty(),
                    reason => rules.0.contains(&reason),
                };
                assert!(agrees && said.1 == rules.1, "{said:?}, by the rules {rules:?}\n{self}");
                *seen.entry(said.0.as_str().to_owned()).or_default() += 1;
            }
            _ => {
                let (to, source) = (self.port(), self.source());
                let arrival = self.frame_of_server(to, source);
                self.note(&format!("port {to} gets from {source} {arrival:02x?}"));
                self.bridge.deliver(source, to, &arrival, self.now);
                self.model.deliver(source, to, &arrival, self.now);
            }
        }
    }

    fn compare(&self, rules: &BTreeMap<(u16, IpAddr), Holder>) {
        let ours: BTreeMap<_, _> = self.bridge.held(self.now);
        let ours = ours.into_iter().map(|(key, (port, mac, until, origin))| {
            let word = match origin {
                Origin::FirstCome => Word::FirstCome,
                Origin::Observed | Origin::Migrated | Origin::Neighbour => Word::Lent,
                _ => Word::Leased,
            };
            (key, Holder { port, mac, until: (until != NEVER).then_some(until), word })
        });
        let ours: BTreeMap<_, _> = ours.collect();
        assert!(ours == *rules, "learned {ours:#?}\nby the rules {rules:#?}\n{self}");
        let routers: BTreeMap<_, _> = self.bridge.routers(self.now);
        let ends = |until: u64| (until != NEVER).then_some(until);
        let routers: BTreeMap<_, _> =
            routers.into_iter().map(|(key, until)| (key, ends(until))).collect();
        let named = self.model.routers(self.now);
        assert!(routers == named, "routers {routers:#?}\nby the rules {named:#?}\n{self}");
        let contradiction = self.bridge.contradiction();
        assert!(contradiction.is_none(), "{contradiction:?}\n{self}");
        for port in self.model.ports.keys() {
            let held = rules.values().filter(|one| one.port == *port).count();
            assert!(held <= 16, "port {port} has {held} addresses\n{self}");
        }
        for (key, holder) in &ours {
            assert!(!self.model.protected.contains(key), "{key:?} has {holder:?}\n{self}");
        }
    }

    fn note(&mut self, step: &str) {
        if self.steps.len() == 30 {
            self.steps.remove(0);
        }
        self.steps.push(format!("{:>9} {step}", self.now));
    }

    fn port(&mut self) -> u32 {
        FIRST + self.dice.roll(self.model.ports.len()) as u32
    }

    fn source(&mut self) -> u32 {
        let guest = self.port();
        self.dice.mostly(&[0, UPLINK, TRUSTED, STRANGER, guest, 99])
    }

    /// One of few, or of more than a port can have.
    fn address(&mut self) -> IpAddr {
        let kind = if self.crowded && !self.dice.once_in(4) { 4 } else { self.dice.roll(5) };
        match kind {
            0 | 1 => self.dice.pick(&talk::V4).into(),
            2 | 3 => self.dice.pick(&talk::V6).into(),
            _ => [192, 0, 2, 100 + self.dice.roll(24) as u8].into(),
        }
    }

    /// Mostly one of the port's own.
    fn station(&mut self, port: u32) -> (Mac, u16) {
        let own = self.stations[&port][0];
        let any = self.dice.pick(&self.stations[&port]);
        let other = self.port();
        let another = self.stations[&other][0];
        self.dice.mostly(&[own, any, any, another])
    }

    fn frame_of_guest(&mut self, port: u32) -> Arrival {
        let (mac, vlan) = self.station(port);
        let address = self.address();
        let from = self.dice.once_in(3).then_some(address);
        let dice = &mut self.dice;
        let bytes = match (dice.roll(8), address) {
            (0, _) => return frames::any(dice),
            (1..=4, _) => talk::client(dice, mac, vlan, from),
            (5, IpAddr::V4(address)) => {
                let sender = dice.mostly(&[address.octets(), [0; 4]]);
                tagged(mac, vlan, 0x0806, &arp(1, mac, sender))
            }
            (5, IpAddr::V6(address)) => {
                // An advertisement, or a probe whether anybody has the address.
                let kind = dice.pick(&[135, 136]);
                let source = if kind == 135 { [0; 16] } else { talk::link_local(mac) };
                let options = if kind == 135 { vec![] } else { vec![link_layer(2, mac)] };
                let message = neighbour(kind, address.octets(), &options);
                let frame = icmp6(source, &message);
                tagged(mac, vlan, 0x86dd, &frame[14..])
            }
            (_, IpAddr::V4(address)) => {
                tagged(mac, vlan, 0x0800, &ipv4(address.octets(), UDP, &udp(4000, 53, &[0; 12])))
            }
            (_, IpAddr::V6(address)) => {
                let packet = ipv6(address.octets(), UDP, 64, &udp(4000, 53, &[0; 12]));
                tagged(mac, vlan, 0x86dd, &packet)
            }
        };
        in_metadata(dice, bytes)
    }

    fn frame_of_server(&mut self, to: u32, source: u32) -> Arrival {
        let (mac, vlan) = self.station(to);
        let own = self.stations.get(&source).map(|stations| stations[0].0);
        let sender = own.unwrap_or([2, 2, 2, 2, 2, 2]);
        if self.dice.once_in(20) {
            return frames::any(&mut self.dice);
        }
        let bytes = match self.dice.roll(8) {
            0 => talk::advertisement(&mut self.dice, vlan, sender),
            _ => talk::server(&mut self.dice, mac, vlan, sender),
        };
        in_metadata(&mut self.dice, bytes)
    }
}

impl std::fmt::Display for Story {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {:#x}, at {}, {:#?}", self.seed, self.now, self.model.ports)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

fn tagged(mac: Mac, vlan: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    let tags: &[(u16, u16)] = if vlan == 0 { &[] } else { &[(0x8100, vlan)] };
    ethernet(BROADCAST, mac, tags, kind, payload)
}

/// The network stack takes the outer tag out of most frames.
fn in_metadata(dice: &mut Dice, mut bytes: Vec<u8>) -> Arrival {
    let mut tag = None;
    if bytes.len() > 18 && bytes[12..14] == [0x81, 0] && !dice.once_in(3) {
        tag = Some((0x8100, u16::from_be_bytes([bytes[14], bytes[15]])));
        bytes.drain(12..16);
    }
    Arrival { bytes, tag, in_segments: dice.once_in(40) }
}

/// A port by chance: its rule, its bounds, its MACs.
fn port(dice: &mut Dice, number: u32) -> Port {
    let first_come = dice.once_in(3);
    let rule = if first_come { LearningRule::FirstCome } else { LearningRule::Dhcp };
    let lends = dice.once_in(3).then(|| Lending { arrived: dice.once_in(2), seconds: 300 });
    let lends = if first_come { None } else { lends };
    let learning = Learning { scope: SCOPE, lends, ..Learning::new(rule) };
    let any = Identity {
        mac: Address([0x52, 0x54, 0, 0, 1, number as u8]),
        vlan: 0,
        v4: AddressSet::Any,
        v6: AddressSet::Any,
        learns: Some(learning),
        dhcp_server: dice.once_in(6),
        router: dice.once_in(6),
        vrrp: false,
    };
    let v4 = |address: [u8; 4], length| Ipv4Net::new_assert(address.into(), length).trunc();
    let v6: Ipv6Net = Ipv6Net::new_assert(talk::V6[0], 64).trunc();
    let bounded = Identity {
        v4: AddressSet::Only(vec![v4([192, 0, 2, 0], 24)]),
        v6: AddressSet::Only(vec![v6]),
        ..any.clone()
    };
    let identities = match dice.roll(4) {
        0 => vec![bounded],
        1 => {
            let second = Address([0x52, 0x54, 0, 0, 2, number as u8]);
            let server = dice.once_in(2);
            vec![
                any.clone(),
                Identity { vlan: 5, ..any.clone() },
                Identity { mac: second, dhcp_server: server, ..bounded },
            ]
        }
        _ => vec![any],
    };
    let seconds = |arrived: bool| lends.filter(|one| one.arrived == arrived).map_or(0, |_| 300);
    Port { identities, first_come, lent_always: seconds(true), lent_observed: seconds(false) }
}

/// What has come about, to be counted.
fn changes(
    before: &BTreeMap<(u16, IpAddr), Holder>,
    after: &BTreeMap<(u16, IpAddr), Holder>,
) -> Vec<(&'static str, u64)> {
    let mut found = Vec::new();
    for (key, new) in after {
        let name = match (before.get(key), new.word) {
            (Some(old), _) if old == new => continue,
            (None, Word::Leased) => "leased",
            (None, Word::FirstCome) => "first-come",
            (None, Word::Lent) => "lent",
            (Some(old), Word::Leased) if old.word == Word::Leased => "renewed",
            (Some(_), Word::Leased) => "leased after first-come",
            (Some(_), _) => "prolonged",
        };
        found.push((name, 1));
    }
    let gone = before.keys().filter(|key| !after.contains_key(key)).count() as u64;
    found.push((if gone > 1 { "over" } else { "ended" }, gone));
    found
}
