//! What came first, and when it is anybody's again. Nobody waits an hour for it: an entry is written that ends
//! soon, and the program goes by the kernel's own clock.

use std::time::Duration;

use detector::bpf::JiffyClock;
use detector_common::addr::{Mac, Station};
use detector_common::learned::{EXTENDED_SECONDS, FIRST_COME_SECONDS, Origin};
use detector_common::samples::{MAC_B, tcp6};
use detector_core::model::{Learned, Timestamp};

use super::*;

const SOON: Duration = Duration::from_secs(2);

#[test]
fn an_address_that_came_first_is_taken_over_when_its_time_is_over() {
    for (address, frame) in [
        (Address::mapped(IP_A), tcp4(MAC_A, IP_A)),
        (Address::from_bytes(IP6_A), tcp6(MAC_A, IP6_A)),
    ] {
        NetNs::new().unwrap().run(|| take_over(address, &frame)).unwrap();
    }
}

fn take_over(address: Address, frame: &[u8]) -> Result<()> {
    let mut port = Port::new()?;
    let clock = JiffyClock::new()?;
    let (ifindex, instance) = (LO, port.instance);
    let flags = flags::GRANTED | flags::LEARNS | flags::FIRST_COME;
    let slot = SlotEntry { flags, mac: MAC_A, ..SlotEntry::default() };
    port.enforcer.execute(&Action::WriteSlot { ifindex, instance, slot })?;
    let owners = bpf::open_pin(&PinPaths::new(port.pins.path()).map(maps::ADDRESS_OWNERS))?;
    let key = OwnerKey { address, ..OwnerKey::default() };
    // A neighbour has it, a little longer.
    let ticks = |seconds: u64| seconds * u64::from(clock.hz());
    let neighbour = Owner {
        expires: clock.now() + ticks(SOON.as_secs()),
        since: clock.now(),
        station: Station::new(Mac(MAC_B), 0).word(),
        ifindex: 55,
        instance: 99,
        place: 900,
        origin: Origin::FirstCome as u32,
    };
    bpf::put(owners.as_fd(), &key, &neighbour)?;
    let passes = |port: &Port| -> Result<bool> {
        Ok(bpf::run(port.guard.as_fd(), &SkBuff::on(LO), frame, 1)? != SHOT)
    };
    ensure!(!passes(&port)?, "before the neighbour's time is over");
    ensure!(port.counters()?[Reason::AddressTaken as usize] == 1, "not for that reason");
    wait::until("it to be taken over", SOON * 5, || Ok(passes(&port)?.then_some(())))?;
    let now = clock.now();
    // The clock is exact to a few ticks.
    let early = neighbour.expires.saturating_sub(now);
    ensure!(early < 5, "{early} ticks too early");

    let held = |port: &mut Port| -> Result<Learned> {
        let learned = port.enforcer.learned_by(LO)?;
        ensure!(learned.len() == 1, "{learned:?}");
        Ok(learned[0].clone())
    };
    let Learned { origin, expires, .. } = held(&mut port)?;
    let own = clock.jiffies(expires.context("it has no end")?);
    ensure!(origin == Origin::FirstCome, "{origin:?}");
    ensure!(own.abs_diff(now + ticks(FIRST_COME_SECONDS)) < ticks(5), "{own} at {now}");

    // With a frame it is the owner's for an hour again, but that is not written each time.
    for (age, extended) in [(EXTENDED_SECONDS + 10, true), (EXTENDED_SECONDS - 30, false)] {
        let now = clock.now();
        let expires = now + ticks(FIRST_COME_SECONDS - age);
        let place = u32::from(port.id) * maps::LEARNED_PER_PORT + maps::LEARNED_PER_PORT - 1;
        let station = Station::new(Mac(MAC_A), 0).word();
        let own = Owner { expires, station, ifindex: LO, instance, place, ..neighbour };
        bpf::put(owners.as_fd(), &key, &own)?;
        ensure!(passes(&port)?, "its own");
        let Timestamp(before) = clock.deadline(expires);
        let Timestamp(after) = held(&mut port)?.expires.context("it has no end")?;
        let more = Duration::from_millis(after.saturating_sub(before));
        let expect = if extended { age } else { 0 };
        ensure!(more.as_secs().abs_diff(expect) < 5, "{more:?} more, of {age} s");
    }
    Ok(())
}
