//! The daemon hangs while a VM starts; then the VM is saved and restored.

use std::time::Duration;

use anyhow::{Context, Result};

use super::stage::BOOT;
use super::{Cast, Stage};
use crate::wait;

/// QEMU announces a guest that has arrived with so many RARPs.
const ANNOUNCEMENTS: usize = 5;
const HANG: Duration = Duration::from_secs(2);

pub(super) fn play(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, libvirt, narrator, .. } = cast;
    let guest = &stage.app;
    narrator.say("the daemon is stopped (SIGSTOP) for 2 s while app1 starts");
    libvirt.define(guest, &stage.approved, "br0")?;
    daemon.freeze()?;
    let started = std::thread::scope(|scope| {
        let start = scope.spawn(|| libvirt.start_domain(guest));
        wait::pause(HANG);
        let waited = !start.is_finished();
        let resumed = daemon.resume();
        match start.join() {
            Ok(result) => resumed.and(result).map(|()| waited),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    narrator.prove(started, "the start waited for the verdict", "it went on with the daemon")?;
    let phase = wait::until("the first phase of app1", BOOT, || {
        Ok(stage.outside(guest.mac)?.first_phase())
    })?;
    narrator.prove(
        phase.is_whole(),
        "no packet is lost all the same",
        &format!("{} sent, {} arrived", phase.sent, phase.arrived),
    )?;
    let (host, inside) = (stage.heard_by_host(guest)?, stage.heard_by(&stage.web, guest.mac)?);
    narrator.prove(
        host > 0 && inside > 0,
        "the host and web1 hear it: those who will hear nothing of others",
        &format!("the host {host}, web1 {inside}"),
    )?;

    narrator.say("virsh save app1, virsh restore");
    libvirt.save(guest)?;
    let saved = stage.outside(guest.mac)?;
    let last = saved.last_seq().context("app1 has sent nothing")?;
    libvirt.restore(guest)?;
    stage.await_beats(guest, 300)?;
    let flow = wait::until("the announcements of app1", BOOT, || {
        let flow = stage.outside(guest.mac)?;
        Ok((flow.announcements() >= ANNOUNCEMENTS).then_some(flow))
    })?;
    narrator.prove(
        flow.announcements() - saved.announcements() == ANNOUNCEMENTS,
        "every announcement of the restored VM arrives",
        &format!("{ANNOUNCEMENTS} sent, {} arrived", flow.announcements()),
    )?;
    let stream = flow.stream(last, last + 300);
    narrator.prove(
        stream.lost() == 0,
        "and it goes on where it was, without a gap",
        &format!("{} sent, {} arrived", stream.sent, stream.arrived),
    )
}
