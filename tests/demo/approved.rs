//! An approved VM.

use anyhow::Result;

use super::stage::BOOT;
use super::{Cast, Stage};
use crate::wait;

pub(super) fn play(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, libvirt, narrator, .. } = cast;
    let guest = &stage.web;
    narrator.say("web1 starts; disk, kernel and initrd are registered by their digests");
    libvirt.define(guest, &stage.approved, "br0")?;
    libvirt.start_domain(guest)?;
    let tap = libvirt.tap(guest)?;
    let phase = wait::until("the first phase of web1", BOOT, || {
        Ok(stage.outside(guest.mac)?.first_phase())
    })?;
    narrator.prove(
        phase.is_whole() && phase.others > 0,
        "no packet is lost, from the first one on",
        &format!(
            "{} sent, {} arrived, {} of them from the guest's own kernel",
            phase.sent, phase.arrived, phase.others
        ),
    )?;
    narrator.command("detector port list", &daemon.show(&["port", "list"])?);
    let port = daemon.await_port(&tap, "granted", BOOT)?;
    narrator.prove(
        port["vm"]["name"] == "web1",
        "the port is granted to the VM, by its template",
        &format!("{tap} is {}", port["status"]),
    )
}
