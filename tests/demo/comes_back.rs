//! VMs that were cut off come back: each outcome is one command, and the system does the rest.

use anyhow::{Context, Result};
use serde_json::Value;

use super::stage::BOOT;
use super::{Cast, Stage};
use crate::daemon::Daemon;
use crate::guest::Guest;
use crate::offline;
use crate::wait;

/// A VM that lacks something gets it while it is off, in a machine without a network.
pub(super) fn patched(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, libvirt, narrator, .. } = cast;
    let guest = &stage.lost;
    narrator.say("lost1, old1 and rogue run, and nobody hears them");
    stage.define_lost(libvirt)?;
    libvirt.define(&stage.old, &stage.unregistered, "br0")?;
    for guest in [guest, &stage.old, &stage.rogue] {
        libvirt.start_domain(guest)?;
        daemon.await_port(&libvirt.tap(guest)?, "isolated", BOOT)?;
    }
    let words = ["start", "lost1", "--outcome", "patched", "--provisioner", "agent"];
    remediate(daemon, &[&words[..], &["--reason", "it has no agent"]].concat())?;
    narrator.command("detector remediate start lost1 --outcome patched --provisioner agent …", "");
    let ready = until(daemon, guest, |one| waits_for(one, "has to approve"))?;
    let disk = ready["media"].as_array().into_iter().flatten().find(|one| one["role"] == "disk");
    let disk = disk.context("it has no disk any more")?;
    let (path, sha256) = (disk["path"].as_str(), disk["sha256"].as_str());
    let (path, sha256) = path.zip(sha256).context("nobody has read its disk")?;
    let agent = offline::content(path.as_ref(), "/etc/agent")?;
    narrator.prove(
        agent == "enrolled\n" && path.contains("/sandbox/"),
        "its disk is in the pool of the sandbox, and what was missing is in it",
        &format!("/etc/agent says {:?}", agent.trim()),
    )?;
    remediate(daemon, &["approve", "lost1", "--sha256", sha256, "--reason", "it has its agent"])?;
    until(daemon, guest, |one| waits_for(one, "start it"))?;
    libvirt.start_domain(guest)?;
    until(daemon, guest, |one| one["stage"] == "released")?;
    stage.await_beats(guest, 50)?;
    let heard = stage.outside(guest.mac)?.len();
    narrator.command(
        "detector remediate status lost1",
        &daemon.show(&["remediate", "status", "lost1"])?,
    );
    narrator.prove(
        heard > 0,
        "patched, approved and judged afresh, it is heard under the same MAC and address",
        &format!("{heard} frames outside"),
    )
}

/// A VM of the approved template takes the place of a rogue one.
pub(super) fn replaced(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, libvirt, narrator, .. } = cast;
    let guest = &stage.old;
    let words = ["start", "old1", "--outcome", "replaced", "--template", "debian-lab"];
    remediate(daemon, &[&words[..], &["--reason", "nobody knows it"]].concat())?;
    narrator
        .command("detector remediate start old1 --outcome replaced --template debian-lab …", "");
    until(daemon, guest, |one| waits_for(one, "has to approve"))?;
    remediate(daemon, &["approve", "old1", "--reason", "nobody knows it"])?;
    until(daemon, guest, |one| waits_for(one, "start it"))?;
    libvirt.start_domain(guest)?;
    let done = until(daemon, guest, |one| one["stage"] == "replaced")?;
    let tap = libvirt.tap(guest)?;
    daemon.await_port(&tap, "granted", BOOT)?;
    let uuid = libvirt.virsh(&["domuuid", "old1"])?.trim().to_owned();
    let interfaces = libvirt.virsh(&["domiflist", "old1"])?;
    let all = libvirt.virsh(&["list", "--all", "--name"])?;
    let archived = all.lines().map(str::trim).find(|name| name.starts_with("old1-rogue-"));
    let archived = archived.with_context(|| format!("the former one is not kept: {all}"))?;
    narrator.prove(
        uuid != guest.uuid && interfaces.contains(&crate::guest::hex(guest.mac)),
        "another VM has its name, its MAC and its place; the former one is kept, cut off",
        &format!("{} on {tap}, and {archived}", done["stage"].as_str().unwrap_or_default()),
    )?;
    libvirt.destroy(guest)
}

/// The image of a rogue VM becomes a template.
pub(super) fn template(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, narrator, .. } = cast;
    let guest = &stage.rogue;
    let silent = stage.outside(guest.mac)?.len();
    let words = ["start", "rogue", "--outcome", "template", "--template", "found"];
    remediate(daemon, &[&words[..], &["--reason", "reviewed by ann"]].concat())?;
    narrator.command("detector remediate start rogue --outcome template --template found …", "");
    until(daemon, guest, |one| one["stage"] == "released")?;
    stage.await_beats(guest, 50)?;
    let heard = stage.outside(guest.mac)?.len();
    narrator.prove(
        silent == 0 && heard > 0,
        "its image is registered, and all of that image come back",
        &format!("{silent} frames outside before, {heard} by now"),
    )
}

fn remediate(daemon: &Daemon<'_>, words: &[&str]) -> Result<Value> {
    let answer = daemon.ask(&[&["remediate"], words].concat())?;
    anyhow::ensure!(
        answer.code == 0,
        "detector remediate {}: {}",
        words.join(" "),
        answer.complaint
    );
    Ok(answer.json)
}

/// Waits for what is said of the VM's remediation, unless that has failed.
fn until(daemon: &Daemon<'_>, guest: &Guest, is: impl Fn(&Value) -> bool) -> Result<Value> {
    wait::until(&format!("the remediation of {}", guest.name), BOOT, || {
        let said = daemon.ask(&["remediate", "status", &guest.name])?;
        let one = said.json["remediations"][0].clone();
        anyhow::ensure!(!waits_for(&one, "has failed"), "{one}");
        Ok(is(&one).then_some(one))
    })
}

fn waits_for(one: &Value, what: &str) -> bool {
    one["waits"].as_str().is_some_and(|waits| waits.contains(what))
}
