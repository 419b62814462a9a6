//! The reader of DHCP messages that the kernel runs against a second opinion: both say the same of what a
//! message does, for messages of every kind, many of them broken.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use detector_common::addr::Station;
use detector_common::claim::Family;
use detector_common::frame::Frame;
use detector_common::lease::{Act, Exchange, MAX_ADDRESSES, may_be_dhcp};
use detector_common::samples::{MAC_A, MAC_B};
use detector_oracle::bridge::{ip, read, routers};
use detector_oracle::lease::{self, Message, Says};
use detector_oracle::{Arrival, dice::Dice, frames, talk};

/// Fixed, so that a difference comes back; printed with it.
const SEED: u64 = 0x1ea5_e5ed;
const FRAMES: usize = 1_000_000;

#[test]
fn the_kernels_reader_and_a_second_opinion_agree() {
    let mut dice = Dice::new(SEED);
    let mut seen: BTreeMap<(bool, &str), u64> = BTreeMap::new();
    for number in 0..FRAMES {
        let bytes = match dice.roll(8) {
            0 => frames::any(&mut dice).bytes,
            1..=3 => talk::client(&mut dice, MAC_A, 0, None),
            4 => talk::server(&mut dice, MAC_A, 5, MAC_B),
            _ => talk::server(&mut dice, MAC_A, 0, MAC_B),
        };
        let tag = dice.mostly(&[0, 7]);
        let arrival = Arrival { bytes, ..Arrival::default() };
        let ours = read(&arrival, tag).and_then(|found| told(&arrival, &found));
        let rules = lease::read(&arrival.bytes, tag);
        let bytes = &arrival.bytes;
        assert_eq!(ours, rules, "seed {SEED:#x}, frame {number}, tag {tag}: {bytes:02x?}");
        if rules.is_some() {
            assert!(may_be_dhcp(Frame::new(bytes)), "overlooked: {bytes:02x?}");
        }
        *seen.entry(name(rules.as_ref())).or_default() += 1;
    }
    println!("seed {SEED:#x}: {FRAMES} frames");
    for ((is_v6, name), count) in &seen {
        println!("{count:>12} {name}, {}", if *is_v6 { "DHCPv6" } else { "DHCP" });
    }
    // Agreement on what was never said shows nothing.
    assert_eq!(seen.len(), 10, "{seen:?}");
    assert!(seen.values().all(|count| *count > 5_000), "{seen:?}");
}

/// What the product has read, in the words of the second opinion.
fn told(arrival: &Arrival, found: &Exchange) -> Option<Message> {
    let client = Station::from_word(found.client);
    let leases = (0..MAX_ADDRESSES).filter_map(|number| found.lease(number));
    let leases = leases.map(|lease| (ip(lease.address), lease.seconds));
    let is_v6 = found.family == Family::V6 as u32;
    let says = if found.is(Act::Asks) {
        let wanted = Ipv4Addr::from(found.wanted.to_ne_bytes());
        Says::Asks((!is_v6 && found.wanted != 0).then_some(wanted))
    } else if found.is(Act::GivesUp) {
        Says::GivesUp(leases.map(|(address, _)| address).collect::<Vec<IpAddr>>())
    } else if found.is(Act::Leases) {
        Says::Leases(leases.collect())
    } else if found.is(Act::Refuses) {
        Says::Refuses
    } else {
        return None;
    };
    let leases = matches!(says, Says::Leases(_));
    let routers = if leases { routers(arrival, found) } else { Vec::new() };
    let client = (client.mac().0, client.vlan());
    Some(Message { client, id: found.id, is_v6, says, routers })
}

fn name(message: Option<&Message>) -> (bool, &'static str) {
    let Some(message) = message else { return (false, "nothing") };
    let name = match &message.says {
        Says::Asks(None) => "asks",
        Says::Asks(Some(_)) => "asks for an address",
        Says::GivesUp(_) => "gives up",
        Says::Leases(_) if message.routers.is_empty() => "leases",
        Says::Leases(_) => "leases, and names routers",
        Says::Refuses => "refuses",
    };
    (message.is_v6, name)
}
