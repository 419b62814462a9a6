//! An approved VM that starts to send under a MAC that is not its own.

use anyhow::{Context, Result};

use super::stage::BOOT;
use super::{Cast, Stage};
use crate::wait;

pub(super) fn play(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, libvirt, narrator, .. } = cast;
    let guest = &stage.nested;
    let foreign = guest.foreign.context("nested has no second MAC")?;
    narrator.say("nested starts, approved; after a while it sends from a second MAC as well");
    libvirt.define(guest, &stage.approved, "br0")?;
    libvirt.start_domain(guest)?;
    let tap = libvirt.tap(guest)?;
    let phase = wait::until("the first phase of nested", BOOT, || {
        Ok(stage.outside(guest.mac)?.first_phase())
    })?;
    let last = stage.await_beats(guest, 200)?;
    let alert = daemon.await_finding("foreign-identity", &tap, BOOT)?;
    narrator.alert(&alert);

    let flow = stage.outside(guest.mac)?;
    let stream = flow.stream(0, last);
    narrator.prove(
        phase.is_whole() && stream.lost() == 0,
        "its own traffic goes on",
        &format!("{} sent, {} arrived", stream.sent, stream.arrived),
    )?;
    let leaked = stage.outside(foreign)?.len();
    let heard = stage.heard_by(&stage.web, foreign)?;
    narrator.prove(
        leaked == 0 && heard == 0,
        "the second MAC reaches nobody",
        &format!("outside {leaked}, web1 {heard}"),
    )?;
    let line = format!("detector port show {tap}");
    narrator.command(&line, &daemon.show(&["port", "show", &tap])?);
    let port = daemon.ask(&["port", "show", &tap])?;
    let mac = crate::guest::hex(foreign);
    let sightings = port.json["sightings"].to_string();
    narrator.prove(sightings.contains(&mac), "the port's record names it", &mac)
}
