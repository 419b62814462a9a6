//! The host joins a fleet. What nobody approved on the other one is told by the fleet's page, and whom the page's reader does
//! not like is cut off by a click.

use anyhow::{Context, Result};

use super::fleet::{COUNT, Fleet, HOSTS, NEIGHBOUR, NESTED, Places, ROGUE, has_heard, states};
use super::stage::BOOT;
use super::{Cast, Stage};
use crate::frames::Station;
use crate::wait;

/// Of the VM in the VM.
const FOREIGN: Station = Station::number(97);
pub(super) fn play(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    join(stage, cast)?;
    rogue(cast)?;
    nested(cast)?;
    click(stage, cast)
}

fn join(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { daemon, libvirt, narrator, places, fleet } = cast;
    let guest = &stage.lost;
    narrator.say("a second host, and a desk with a NATS server and a monitor; both hosts join");
    let from = stage.outside(guest.mac)?.last_seq().context("lost1 is silent")?;
    let fleet = fleet.insert(Fleet::found(places, stage, daemon)?);
    let to = stage.await_beats(guest, 10)?;
    let stream = stage.outside(guest.mac)?.stream(from, to);
    narrator.prove(
        stream.lost() == 0,
        "the VMs of a host that joins have not noticed",
        &format!("{} sent, {} arrived", stream.sent, stream.arrived),
    )?;
    for guest in [guest, &stage.rogue] {
        daemon.await_port(&libvirt.tap(guest)?, "granted", BOOT)?;
    }
    let said = [states(daemon)?, states(&fleet.daemon)?];
    let said: Vec<_> =
        HOSTS.iter().zip(&said).map(|(host, vms)| format!("{host}: {vms}")).collect();
    narrator.command("detector-monitor hosts", &fleet.monitor.read(&["hosts"])?.1);
    fleet.await_hosts("what its hosts say", |rows| {
        rows.iter().map(|row| format!("{}: {}", row.name, row.vms)).eq(said.iter().cloned())
    })?;
    narrator.prove(
        said.iter().all(|said| said.contains("2 approved")),
        "both hosts are on the page, with the number and state of their VMs",
        &said.join("; "),
    )
}

/// One that no template covers, on the second host.
fn rogue(cast: &mut Cast<'_>) -> Result<()> {
    let Cast { narrator, places, fleet, .. } = cast;
    let fleet = fleet.as_mut().context("no fleet was founded")?;
    narrator.say("pet1 starts on host-2, and sends; it is of no template");
    fleet.open("/quarantine")?;
    fleet.browser.evaluate("window.before = true")?;
    fleet.start_rogue(places)?;
    let at_first = leaks_of_rogue(fleet, places)?;
    fleet.daemon.await_port(ROGUE.port, "isolated", BOOT)?;
    let later = leaks_of_rogue(fleet, places)?;
    narrator.alert(&fleet.daemon.await_finding("rogue-vm", ROGUE.name, BOOT)?);
    narrator.prove(
        at_first == 0 && later == 0,
        "its own host has cut it off, and nobody has heard a frame of it",
        &format!("{at_first} outside before the verdict, {later} after it"),
    )?;
    let finding = format!(
        "Array.from(document.querySelectorAll('li.card'))
            .find((card) => card.querySelector('h2')?.innerText === '{}')
            ?.querySelector('.finding p')?.innerText ?? null",
        ROGUE.name
    );
    let evidence = wait::until("the page to show pet1", BOOT, || {
        let said = fleet.browser.evaluate(&finding)?;
        Ok(said.as_str().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")))
    })?;
    narrator.prove(
        fleet.browser.evaluate("window.before === true")? == true,
        "the page's queue has it with its evidence, and nobody has loaded it again",
        &evidence,
    )
}

fn leaks_of_rogue(fleet: &Fleet<'_>, places: &Places) -> Result<usize> {
    let rogue = fleet.rogue.as_ref().context("the rogue has not started")?;
    fleet.leaks(places, ROGUE.station, rogue)
}

/// An approved one of which somebody has made a host.
fn nested(cast: &mut Cast<'_>) -> Result<()> {
    let Cast { narrator, places, fleet, .. } = cast;
    let fleet = fleet.as_mut().context("no fleet was founded")?;
    narrator.say("db2, which is approved, sends from a second MAC as well: a VM within a VM");
    NESTED.await_heard(places, &fleet.nested, 0)?;
    let leaked = fleet.leaks(places, FOREIGN, &fleet.nested)?;
    let alert = fleet.daemon.await_finding("foreign-identity", NESTED.port, BOOT)?;
    let title = alert["title"].as_str().context("a finding has a title")?;
    fleet.open("/findings")?;
    fleet.browser.await_text(title)?;
    narrator.prove(
        leaked == 0,
        "the second MAC reaches nobody, and the page tells of it",
        &format!("{leaked} outside; {title}"),
    )
}

/// It is taken off the network, by the page.
fn click(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    let Cast { narrator, places, fleet, .. } = cast;
    let fleet = fleet.as_mut().context("no fleet was founded")?;
    let guest = &stage.lost;
    let from = stage.outside(guest.mac)?.last_seq().context("lost1 is silent")?;
    narrator.say("an operator looks closer, clicks on Quarantine, and says why");
    let reason = "it runs a VM of its own";
    let page = NESTED.path(&fleet.daemon)?;
    // The finding names the port, and its host's page who is behind it.
    fleet.open(&format!("/hosts/{}", HOSTS[1]))?;
    fleet.browser.follow(&format!("a.node[href='{page}']"), "What is required of it")?;
    fleet.act("quarantine", reason, "It is in quarantine: it neither sends nor receives.")?;
    let port = fleet.daemon.await_port(NESTED.port, "isolated", BOOT)?;
    fleet.nested.drain()?;
    let leaked = fleet.leaks(places, NESTED.station, &fleet.nested)?;
    NEIGHBOUR.await_heard(places, &fleet.neighbour, COUNT)?;
    let heard = has_heard(&fleet.nested, NEIGHBOUR.station, COUNT)?;
    narrator.prove(
        leaked == 0 && !heard,
        "the kernel of its host has cut it off: it neither sends nor receives",
        &format!("{} is {}, {leaked} of {COUNT} frames outside", NESTED.port, port["status"]),
    )?;
    let to = stage.await_beats(guest, 50)?;
    let stream = stage.outside(guest.mac)?.stream(from, to);
    narrator.prove(
        stream.lost() == 0,
        "db1 beside it goes on, and so do the VMs of the other host",
        &format!("lost1: {} sent, {} arrived", stream.sent, stream.arrived),
    )?;
    let records = fleet.daemon.ask(&["audit", "list", "--limit", "0"])?.json["records"].take();
    let mut records = records.as_array().into_iter().flatten();
    let asked = records.find(|one| one["kind"] == "action-asked" && one["why"] == reason);
    let who = asked.map(|one| one["who"].clone()).unwrap_or_default();
    narrator.prove(
        who["monitor"] == "desk" && who["user"] == "otto (operate)",
        "it is on record at that host who did it, by which monitor, and why",
        &format!("{} by {}, {reason:?}", who["user"], who["monitor"]),
    )
}
