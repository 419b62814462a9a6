//! A tap that somebody puts on the bridge by hand, first while the daemon watches, then while it is
//! dead.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use detector_guest::{Beat, Phase};

use super::stage::BOOT;
use super::{Cast, Stage};
use crate::frames::{self, Station};
use crate::link;
use crate::scene::interface_mac;
use crate::tap::{Header, Tap};

const STRAY: Station = Station::number(99);
/// Long enough for a frame to arrive anywhere, were it on its way.
const SILENCE: Duration = Duration::from_millis(300);
/// Where routed frames would go: beyond the bridge.
const BEYOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

pub(super) fn play(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let network = stage.host.network();
    // The host routes, and knows the way to the one beyond: only the gate is in between.
    network.command("sysctl").args(["-qw", "net.ipv4.ip_forward=1"]).status()?;
    network.ip(&format!("neigh replace {BEYOND} lladdr 02:be:00:00:00:01 dev br0"))?;

    cast.narrator.say("a tap is put on the bridge, without libvirt");
    let stray = Tap::open(network, "stray0", Header::None)?;
    try_everything(stage, cast, &stray, true)?;
    let alert = cast.daemon.await_finding("unknown-port", "stray0", BOOT)?;
    cast.narrator.alert(&alert);
    let line = format!("detector port show {}", stray.name());
    cast.narrator.command(&line, &cast.daemon.show(&["port", "show", stray.name()])?);
    try_everything(stage, cast, &stray, false)?;
    drop(stray);

    cast.narrator.say("kill -9 of the daemon, then another tap");
    cast.daemon.kill()?;
    let orphan = Tap::open(network, "stray1", Header::None)?;
    try_everything(stage, cast, &orphan, true)?;
    cast.daemon.run()?;
    cast.daemon.await_finding("unknown-port", "stray1", BOOT)?;
    try_everything(stage, cast, &orphan, false)?;
    drop(orphan);

    cast.narrator.say("a tap that the host routes for, on no bridge at all");
    let routed = Tap::open(network, "stray2", Header::None)?;
    network.ip("address add 198.51.100.1/24 dev stray2")?;
    network.ip("link set stray2 up")?;
    let mac = interface_mac(network, "stray2")?;
    let from = Station { mac: STRAY.mac, ip: Ipv4Addr::new(198, 51, 100, 2) };
    for _ in 0..20 {
        routed.send(&frames::udp(from, (mac, BEYOND), (7, 7), b"routed"))?;
    }
    crate::wait::pause(SILENCE);
    let seen = routed_outside(stage)?;
    cast.narrator.prove(
        seen == 0,
        "nothing of it is routed into the bridge",
        &format!("{seen} of 20"),
    )
}

/// Sends whatever a guest could try; nothing of it may arrive.
fn try_everything(stage: &Stage<'_>, cast: &mut Cast<'_>, stray: &Tap, plug: bool) -> Result<()> {
    let network = stage.host.network();
    let neighbour = &stage.web;
    let tap = cast.libvirt.tap(neighbour)?;
    if plug {
        network.ip(&format!("link set {} up", stray.name()))?;
        link::enslave(network, stray.name(), "br0")?;
    }
    let bridge = interface_mac(network, "br0")?;
    let thief = Station { mac: neighbour.mac, ip: neighbour.ip };
    for seq in 0..20 {
        let beat = Beat { phase: Phase::Stream, seq, total: 0 };
        stray.send(&beat.frame(STRAY.mac, STRAY.ip))?;
        stray.send(&frames::arp(STRAY, STRAY.ip))?;
        // The neighbour's own identity, so that the bridge would look for it here.
        stray.send(&frames::arp(thief, thief.ip))?;
        // To the host, and by way of the host.
        stray.send(&frames::udp(STRAY, (bridge, Ipv4Addr::new(192, 0, 2, 1)), (7, 4242), b"hi"))?;
        stray.send(&frames::udp(STRAY, (bridge, BEYOND), (7, 7), b"routed"))?;
    }
    crate::wait::pause(SILENCE);

    let state = if plug { "from the first moment" } else { "and once its guard is attached" };
    let outside = stage.outside(STRAY.mac)?.len();
    let routed = routed_outside(stage)?;
    let listener = crate::guest::Guest { ip: STRAY.ip, ..neighbour.clone() };
    let host = stage.heard_by_host(&listener)?;
    let inside = stage.heard_by(neighbour, STRAY.mac)?;
    cast.narrator.prove(
        outside == 0 && routed == 0 && host == 0 && inside == 0,
        &format!("{} is mute, {state}", stray.name()),
        &format!("outside {outside}, routed {routed}, the host {host}, web1 {inside}"),
    )?;
    let entry = network.bridge("fdb show br br0")?;
    let mac = crate::guest::hex(neighbour.mac);
    let place = entry.lines().find(|line| line.starts_with(&mac)).unwrap_or_default();
    cast.narrator.prove(
        place.contains(&format!("dev {tap} ")),
        "web1's forwarding entry stays where it is",
        place.trim(),
    )
}

fn routed_outside(stage: &Stage<'_>) -> Result<usize> {
    let frames = stage.outside_frames()?;
    Ok(frames.iter().filter(|frame| frame.bytes.ends_with(b"routed")).count())
}
