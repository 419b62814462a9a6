//! Sources that do not answer, and entries that were refused.

use detector_common::quarantine::QuarantineMode;

use super::{Found, finding, pair};
use crate::{
    decide::{
        interfaces,
        text::{bounded, moment, quoted},
    },
    model::{FindingKind, Health, Quarantine, Rejected, Severity, Subject, Timestamp, World},
};

pub(super) fn report(world: &World, found: &mut Found) {
    for (name, source) in &world.sources {
        if let Health::Lost { since, why } = &source.health {
            lost(found, name, why, *since);
        }
        rejections(found, &source.rejected, world.now);
    }
    if let Some(why) = &world.registry.lost {
        lost(found, "templates", why, world.now);
    }
    if let Some(why) = &world.quarantines_lost {
        lost(found, "quarantines", why, world.now);
    }
    rejections(found, &world.registry.rejected, world.now);
    if let Some(lost) = &world.graces.lost {
        let why = format!("{}, and no VM has a grace period", lost.why);
        rejections(found, &[Rejected { place: lost.place.clone(), why }], world.now);
    }
    policy(world, found);
    clock(world, found);
    sandbox(world, found);
}

/// A policy file that is not used.
fn policy(world: &World, found: &mut Found) {
    let Some(refused) = &world.rules.refused else { return };
    let in_force = match &world.rules.origin {
        Some(_) => "what it said before stays in force",
        None => "the built-in policy is in force",
    };
    let first = refused.why.first().map_or("", String::as_str);
    let more = match refused.why.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let evidence = refused.why.iter().take(MOST_FAULTS).map(|why| pair("fault", why));
    found.add(finding(
        (FindingKind::PolicyInvalid, Subject::Place(refused.path.clone())),
        Severity::High,
        format!("The policy is not used, {in_force}: {}{more}.", bounded(first)),
        evidence.collect(),
        Some(format!("detector policy check {}", refused.path)),
        refused.since,
    ));
}

/// The time of day is not what it should be by the time that has passed.
fn clock(world: &World, found: &mut Found) {
    let Some(since) = world.skew.doubted else { return };
    // From when it was noticed on, so that time alone makes no news of it.
    let today = world.skew.today(since);
    let dates = [today.earliest, today.latest].map(moment);
    found.add(finding(
        (FindingKind::ClockJumped, Subject::Host),
        Severity::Medium,
        format!(
            "The host's clock has been set, so that it was {} or {}: whether what ends in between has \
             ended is not known; what is in force stays, nothing new is admitted by it. Set it right, or \
             confirm that it is.",
            dates[0], dates[1]
        ),
        vec![pair("earliest", &dates[0]), pair("latest", &dates[1])],
        Some("detector clock confirm --reason '…'".to_owned()),
        since,
    ));
}

/// How many faults of a policy are repeated: the first ones explain the others.
const MOST_FAULTS: usize = 10;

/// Quarantines that ask for a sandbox where there is none.
fn sandbox(world: &World, found: &mut Found) {
    let in_sandbox = |quarantine: &&Quarantine| quarantine.mode == QuarantineMode::Sandbox;
    let quarantines = world.observed.quarantines.values().filter(in_sandbox);
    let Some(since) = quarantines.map(|quarantine| quarantine.since).min() else { return };
    if interfaces::sandbox(world).is_some() {
        return;
    }
    let bridge = world.policy.sandbox.as_deref();
    let what = bridge.map_or("no bridge is configured for it".to_owned(), |bridge| {
        format!("there is no bridge {}", quoted(bridge))
    });
    found.add(finding(
        (FindingKind::SandboxMissing, Subject::Host),
        Severity::Medium,
        format!("There is no sandbox, so that what is quarantined there is cut off: {what}."),
        vec![pair("sandbox.bridge", bridge.unwrap_or("none"))],
        Some("detector quarantine list".to_owned()),
        since,
    ));
}

pub(super) fn lost(found: &mut Found, name: &str, why: &str, since: Timestamp) {
    found.add(finding(
        (FindingKind::SourceLost, Subject::Source(name.to_owned())),
        Severity::Medium,
        format!(
            "{name} is lost ({}): what is in force stays, nothing new is admitted.",
            bounded(why)
        ),
        vec![pair("source", name), pair("why", why)],
        Some("detector status".to_owned()),
        since,
    ));
}

fn rejections(found: &mut Found, rejected: &[Rejected], now: Timestamp) {
    for entry in rejected {
        found.add(finding(
            (FindingKind::EntryRejected, Subject::Place(entry.place.clone())),
            Severity::Low,
            format!("{} was refused, the rest holds: {}.", entry.place, bounded(&entry.why)),
            vec![pair("place", &entry.place), pair("why", &entry.why)],
            None,
            now,
        ));
    }
}
