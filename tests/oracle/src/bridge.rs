//! Ports of one bridge that learn, as the product has them: the code of the kernel programs, over plain
//! maps in place of the kernel's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use detector_common::addr::{Address, Station};
use detector_common::frame::{COPY_BYTES, COPY_SLACK, Copied, Frame};
use detector_common::gate::{self, Vetting};
use detector_common::learned::{self, Origin, Owner, OwnerKey, plain::Plain};
use detector_common::lease::{self, Act, Exchange};
use detector_common::maps::LEARNED_PER_PORT;
use detector_common::parse::{Claim, MetaTag};
use detector_common::port::{PortSlot, flags};
use detector_common::reason::Reason;
use detector_common::settings::Settings;
use detector_common::verdict;

use crate::granted::Compiled;
use crate::{Arrival, Mac};

/// An interface, and what is granted to it.
#[derive(Debug)]
pub struct Interface {
    pub slot: PortSlot,
    pub granted: Compiled,
}

/// Who has an address until when: number of the interface, MAC, jiffies, origin.
pub type Held = (u32, Mac, u64, Origin);

#[derive(Debug)]
pub struct Bridge {
    pub settings: Settings,
    pub interfaces: BTreeMap<u32, Interface>,
    pub maps: Plain,
    scope: u32,
}

impl Bridge {
    pub fn new(scope: u32, settings: Settings, interfaces: Vec<Interface>) -> Self {
        let ports = interfaces.len();
        let interfaces = interfaces.into_iter().map(|one| (one.slot.ifindex, one)).collect();
        let maps = Plain::new(ports);
        Self { settings, interfaces, maps, scope }
    }

    /// The verdict on a frame from the guest at this interface, after which it goes on or not: what
    /// `port_ingress` does.
    pub fn send(&mut self, from: u32, arrival: &Arrival, now: u64) -> (Reason, bool) {
        let Self { settings, interfaces, maps, .. } = self;
        let Interface { slot, granted } = &interfaces[&from];
        let tag = arrival.tag.map_or_else(MetaTag::default, |(kind, tci)| MetaTag::of(kind, tci));
        let frame = Frame::new(&arrival.bytes).with_segments(arrival.in_segments);
        let mut claim = Claim::default();
        let mut reason = verdict::vet(frame, tag, slot, granted, &mut claim);
        if reason == Reason::AddressNotLeased {
            reason = verdict::settle(&mut claim, |station, address| {
                learned::ask(maps, slot, settings, now, station, address)
            });
        }
        let said = || read(arrival, tag.vlan());
        if learned::may_renew(slot, &claim, reason)
            && let Some(said) = said()
            && Address::mapped_word(lease::renewed(&said)) == claim.source
        {
            learned::heard(maps, slot, &said, now);
            return (Reason::Granted, true);
        }
        let passes = reason.passes() || !slot.drops(settings, || now);
        if passes
            && learned::asks(slot, &claim, reason)
            && let Some(said) = said()
        {
            learned::heard(maps, slot, &said, now);
        }
        (reason, passes)
    }

    /// A frame is delivered to the guest at this interface, having come in by another, or by none: what
    /// `port_egress` does.
    pub fn deliver(&mut self, source: u32, to: u32, arrival: &Arrival, now: u64) {
        let Interface { slot, .. } = &self.interfaces[&to];
        let tag = arrival.tag.map_or_else(MetaTag::default, |(kind, tci)| MetaTag::of(kind, tci));
        let frame = Frame::new(&arrival.bytes);
        if !learned::listens(slot) {
            return;
        }
        let slot_of = |ifindex| self.interfaces.get(&ifindex).map(|one| &one.slot);
        let hz = self.settings.hz;
        let protect = |maps: &mut Plain, vlan, address, expires| {
            let key = learned::key(slot, Station::default().on_vlan(vlan), address);
            let plays = |owner| slot_of(owner).is_some_and(|slot| slot.has(flags::ROUTES));
            learned::protect(maps, &key, now, expires, plays);
        };
        if lease::may_be_advertisement(frame)
            && gate::may_route(source, slot, slot_of, || Vetting::Unvetted)
            && let Some(copied) = copied(arrival)
            && let Some(said) = lease::advertised(copied.copy(), tag.vlan())
        {
            let seconds = u32::from(said.seconds).max(learned::ADVERTISED_SECONDS);
            let expires = learned::expiry(seconds, now, hz);
            protect(&mut self.maps, said.vlan, said.router, expires);
        }
        if !lease::may_be_dhcp(frame) {
            return;
        }
        let Some(said) = read(arrival, tag.vlan()) else { return };
        if !said.is(Act::Leases) && !said.is(Act::Refuses) {
            return;
        }
        let sender = || Some(frame.window::<14>(0)?.mac::<6>().on_vlan(tag.vlan()));
        let compiled = self.interfaces.get(&source).map(|one| &one.granted);
        let nothing = Compiled::new(&crate::Port::Pending);
        if gate::may_serve(
            source,
            slot,
            slot_of,
            sender,
            || Vetting::Unvetted,
            compiled.unwrap_or(&nothing),
        ) && learned::told(&mut self.maps, slot, &said, now, hz)
            && let Some(first) = said.lease(0)
        {
            let expires = learned::expiry(first.seconds, now, hz);
            let vlan = Station::from_word(said.client).vlan();
            for router in routers(arrival, &said) {
                protect(&mut self.maps, vlan, mapped(router.into()), expires);
            }
        }
    }

    /// The daemon protects an address, whoever has it, or protects it no more.
    pub fn protect(&mut self, vlan: u16, address: IpAddr, protects: bool) {
        let key = OwnerKey { address: mapped(address), scope: self.scope, vlan, pad: 0 };
        if protects {
            self.maps.owners.insert(key, Owner::PROTECTED);
        } else if self.maps.owners.get(&key).is_some_and(|owner| *owner == Owner::PROTECTED) {
            self.maps.owners.remove(&key);
        }
    }

    /// From now on the rule of a port is first-come, or is not.
    pub fn set_first_come(&mut self, port: u32, first_come: bool) {
        let Some(one) = self.interfaces.get_mut(&port) else { return };
        one.slot.flags &= !flags::FIRST_COME;
        one.slot.flags |= if first_come { flags::FIRST_COME } else { 0 };
    }

    /// Who has what, protected addresses aside.
    pub fn held(&self, now: u64) -> BTreeMap<(u16, IpAddr), Held> {
        let living = self.maps.owners.iter().filter(|(_, owner)| owner.expires > now);
        living
            .filter(|(_, owner)| !owner.is_protected())
            .map(|(key, owner)| {
                let mac = Station::from_word(owner.station).mac().0;
                let held = (owner.ifindex, mac, owner.expires, Origin::from_code(owner.origin));
                ((key.vlan, ip(key.address)), held)
            })
            .collect()
    }

    /// Routers that have been named, until when.
    pub fn routers(&self, now: u64) -> BTreeMap<(u16, IpAddr), u64> {
        let named = self
            .maps
            .owners
            .iter()
            .filter(|(_, owner)| owner.origin == Origin::Router as u32 && owner.expires > now);
        named.map(|(key, owner)| ((key.vlan, ip(key.address)), owner.expires)).collect()
    }

    /// What does not hold among the maps, if anything.
    pub fn contradiction(&self) -> Option<String> {
        for (key, owner) in self.maps.owners.iter().filter(|(_, owner)| !owner.is_protected()) {
            let slot = &self.interfaces[&owner.ifindex].slot;
            let own = u32::from(slot.id) * LEARNED_PER_PORT..;
            let place = self.maps.places[owner.place as usize];
            let stands = place.key == *key && place.instance == owner.instance;
            if !stands || !own.take(LEARNED_PER_PORT as usize).any(|one| one == owner.place) {
                return Some(format!("{key:?} {owner:?} has the place {place:?}"));
            }
            let station = Station::from_word(owner.station);
            if learned::key(slot, station, key.address) != *key {
                return Some(format!("{key:?} is not what {owner:?} claims"));
            }
        }
        None
    }
}

/// The message in a frame, as the product reads it.
pub fn read(arrival: &Arrival, vlan: u16) -> Option<Exchange> {
    let copied = copied(arrival)?;
    let mut found = Exchange::NOTHING;
    lease::read(copied.copy(), vlan, &mut found);
    Some(found)
}

/// The routers that the message names which was read of the frame.
pub fn routers(arrival: &Arrival, said: &Exchange) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    if let Some(copied) = copied(arrival) {
        lease::routers(copied.copy(), said, |router| found.push(router.to_ne_bytes().into()));
    }
    found
}

/// The beginning of a frame where the product reads it.
struct Beginning {
    bytes: [u8; COPY_BYTES + COPY_SLACK],
    length: usize,
}

impl Beginning {
    fn copy(&self) -> Copied<'_> {
        Copied::new(&self.bytes, self.length)
    }
}

fn copied(arrival: &Arrival) -> Option<Beginning> {
    if arrival.in_segments || arrival.bytes.is_empty() {
        return None;
    }
    // Behind the frame lies what was there before.
    let mut bytes = [0xa5; COPY_BYTES + COPY_SLACK];
    let length = arrival.bytes.len().min(COPY_BYTES);
    bytes[..length].copy_from_slice(&arrival.bytes[..length]);
    Some(Beginning { bytes, length })
}

/// An address as the kernel has it.
pub fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::mapped(address.octets()),
        IpAddr::V6(address) => Ipv6Addr::into(address),
    }
}

/// And back.
pub fn ip(address: Address) -> IpAddr {
    match address.is_mapped() {
        true => IpAddr::from(address.v4()),
        false => IpAddr::V6(address.into()),
    }
}
