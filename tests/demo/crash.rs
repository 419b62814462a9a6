//! kill -9 and restart, under traffic.

use anyhow::{Context, Result};

use super::{Cast, Stage};
use crate::frames::{self, Station};
use crate::link;
use crate::tap::{Header, Tap};

const STRAY: Station = Station::number(98);

pub(super) fn play(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, libvirt, narrator, .. } = cast;
    let network = stage.host.network();
    let stray = Tap::open(network, "stray3", Header::None)?;
    network.ip("link set stray3 up")?;
    link::enslave(network, "stray3", "br0")?;
    let guests = [&stage.web, &stage.app];
    let mut from = Vec::new();
    for guest in guests {
        from.push(stage.outside(guest.mac)?.last_seq().context("an approved VM is silent")?);
    }
    for (round, how) in ["kill -9", "kill -9 again", "a clean stop"].into_iter().enumerate() {
        narrator.say(&format!("{how}; the daemon is away for a second, then it is back"));
        if round == 2 {
            daemon.terminate()?;
        } else {
            daemon.kill()?;
        }
        stage.await_beats(&stage.web, 100)?;
        for _ in 0..100 {
            stray.send(&frames::arp(STRAY, STRAY.ip))?;
        }
        daemon.run()?;
        stage.await_beats(&stage.web, 100)?;
    }
    for (guest, from) in guests.into_iter().zip(from) {
        let to = stage.await_beats(guest, 10)?;
        let stream = stage.outside(guest.mac)?.stream(from, to);
        narrator.prove(
            stream.lost() == 0,
            &format!("{} has lost nothing", guest.name),
            &format!("{} sent, {} arrived", stream.sent, stream.arrived),
        )?;
    }
    let foreign = stage.nested.foreign.context("nested has no second MAC")?;
    let leaks = [
        stage.outside(stage.rogue.mac)?.len(),
        stage.outside(STRAY.mac)?.len(),
        stage.outside(foreign)?.len(),
    ];
    narrator.prove(
        leaks == [0; 3],
        "nothing has leaked from the others",
        &format!("rogue {}, the tap {}, the second MAC {}", leaks[0], leaks[1], leaks[2]),
    )?;
    narrator.command("detector status", &daemon.show(&["status"])?);
    for guest in [&stage.web, &stage.app, &stage.nested, &stage.rogue] {
        libvirt.destroy(guest)?;
    }
    Ok(())
}
