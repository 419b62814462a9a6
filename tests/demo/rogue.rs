//! A VM whose disk descends from no registered image.

use anyhow::{Context, Result};

use super::stage::BOOT;
use super::{Cast, Stage};

pub(super) fn play(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, libvirt, narrator, .. } = cast;
    let (guest, neighbour) = (&stage.rogue, &stage.web);
    let from = stage.outside(neighbour.mac)?.last_seq().context("web1 is silent")?;
    narrator.say("rogue starts; its disk is registered nowhere");
    libvirt.define(guest, &stage.unregistered, "br0")?;
    libvirt.start_domain(guest)?;
    let alert = daemon.await_finding("rogue-vm", "rogue", BOOT)?;
    narrator.alert(&alert);
    stage.await_first_phase(guest)?;
    let to = stage.await_beats(neighbour, 200)?;

    let (outside, host) = (stage.outside(guest.mac)?.len(), stage.heard_by_host(guest)?);
    let inside = stage.heard_by(neighbour, guest.mac)?;
    narrator.prove(
        outside == 0 && host == 0 && inside == 0,
        "it has sent, and nobody has heard a frame of it",
        &format!("outside {outside}, the host {host}, web1 {inside}"),
    )?;
    let heard = stage.heard_by(guest, neighbour.mac)?;
    narrator.prove(
        heard == 0,
        "nor does it hear the others",
        &format!("{heard} frames of web1"),
    )?;
    let stream = stage.outside(neighbour.mac)?.stream(from, to);
    narrator.prove(
        stream.lost() == 0,
        "web1 has not noticed",
        &format!("{} sent, {} arrived", stream.sent, stream.arrived),
    )?;
    narrator.command("detector explain rogue", &daemon.show(&["explain", "rogue"])?);
    narrator.command("detector quarantine list", &daemon.show(&["quarantine", "list"])?);
    let explained = daemon.ask(&["explain", "rogue"])?;
    narrator.prove(
        explained.json["status"] == "quarantined",
        "one command explains it",
        explained.json["summary"].as_str().unwrap_or_default(),
    )
}
