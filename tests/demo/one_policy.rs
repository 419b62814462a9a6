//! A policy that the fleet's office has signed comes to both hosts. It forbids a VM that one of them had made its peace
//! with; and who was cut off by a click comes back by one.

use anyhow::{Context, Result};
use detector_core::decide::policy::DEFAULT;

use super::fleet::{COUNT, HOSTS, NESTED, SIGNER, has_heard};
use super::stage::BOOT;
use super::{Cast, Stage};

/// What it asks beyond the policy that is built in: `found` is the template that the stage's host has made of a rogue's image.
const RULE: &str = r#"
@id("fleet-templates")
@sentence("What one host has found is no template of the fleet's.")
@remedy("Replace the VM by one of an approved template, or have the fleet approve its image.")
forbid (principal, action == Action::"join", resource)
unless { principal has lineage.template.id && principal.lineage.template.id != "found" };

"#;
const VERSION: u32 = 1;

pub(super) fn play(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    roll_out(stage, cast)?;
    release(cast)
}

fn roll_out(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, libvirt, narrator, fleet, .. } = cast;
    let fleet = fleet.as_mut().context("no fleet was founded")?;
    let (guest, neighbour) = (&stage.rogue, &stage.lost);
    let tap = libvirt.tap(guest)?;
    narrator.say("the office signs a policy: no VM of a template that one host has made of a find");
    let bundle = fleet.nats.bundle((VERSION, &[RULE, DEFAULT].concat(), SIGNER))?;
    let bundle = bundle.to_str().context("a path is text")?;
    let (_, plan) = fleet.monitor.read(&["plan", bundle])?;
    narrator.command("detector-monitor plan bundle-1", &plan);
    // The one that was replaced is cut off already, and stays so.
    let loses = plan.lines().filter(|line| line.contains(" is quarantined: "));
    let losers: Vec<_> = loses.flat_map(|line| line.split_whitespace().take(2)).collect();
    let port = daemon.ask(&["port", "show", &tap])?.json;
    narrator.prove(
        losers == [HOSTS[0], guest.name.as_str()] && port["status"] == "granted",
        "the plan says which VM on which host it would cut off, and does nothing",
        plan.lines().next_back().unwrap_or_default(),
    )?;

    narrator.say(
        "it is rolled out: to host-2, and once it has done no harm there for a second, to all",
    );
    let words = ["policy", "roll-out", "start", bundle];
    let plan = ["--canary", HOSTS[1], "--wave", "100%", "--soak", "1s", "--most", "1"];
    let said = fleet.nats.office(&[&words[..], &plan].concat())?;
    let line = format!("detector fleet policy roll-out start bundle-1 {}", plan.join(" "));
    narrator.command(&line, &said);
    let status = fleet.nats.office(&["policy", "roll-out", "status"])?;
    narrator.command("detector fleet policy roll-out status", &status);
    let version = VERSION.to_string();
    let shown = fleet.await_hosts("which bundle its hosts go by", |rows| {
        rows.len() == HOSTS.len() && rows.iter().all(|row| row.bundle == version)
    })?;
    let shown: Vec<_> =
        shown.iter().map(|row| format!("{} by bundle {}", row.name, row.bundle)).collect();
    narrator.prove(
        status.contains("2 of 2 hosts"),
        "both hosts say that they go by it",
        &shown.join(", "),
    )?;

    let port = daemon.await_port(&tap, "isolated", BOOT)?;
    // By the time at which it says what it has heard, what was on its way has arrived.
    let heard = stage.heard_by(guest, neighbour.mac)?;
    let before = stage.outside(guest.mac)?.len();
    let more = stage.heard_by(guest, neighbour.mac)? - heard;
    let leaked = stage.outside(guest.mac)?.len() - before;
    narrator.prove(
        leaked == 0 && more == 0,
        "whom it forbids is cut off, though its own host had registered its image",
        &format!("{tap} is {}, {leaked} frames outside, {more} of lost1", port["status"]),
    )?;
    let explained = daemon.ask(&["explain", &guest.name])?.json;
    narrator.prove(
        explained.to_string().contains("fleet-templates"),
        "one command names the fleet's rule",
        explained["summary"].as_str().unwrap_or_default(),
    )
}

/// Who was cut off by a person comes back by one.
fn release(cast: &mut Cast<'_>) -> Result<()> {
    let Cast { narrator, places, fleet, .. } = cast;
    let fleet = fleet.as_mut().context("no fleet was founded")?;
    narrator.say("the operator releases db2 on its page");
    let page = NESTED.path(&fleet.daemon)?;
    fleet.open(&page)?;
    fleet.act("release", "the VM within is gone", "The quarantine is lifted.")?;
    let port = fleet.daemon.await_port(NESTED.port, "granted", BOOT)?;
    let seq = 2 * COUNT;
    NESTED.await_heard(places, &fleet.nested, seq)?;
    let back = has_heard(&fleet.neighbour, NESTED.station, seq)?;
    narrator.prove(
        back,
        "it meets the new policy, and is heard again, by its neighbour and outside",
        &format!("{} is {}", NESTED.port, port["status"]),
    )?;
    narrator.command("detector-monitor vms", &fleet.monitor.read(&["vms"])?.1);
    Ok(())
}
