//! VMs that keep what they have because too many would lose it.

use super::{Facts, Found, finding, pair};
use crate::{
    decide::{
        Guard, Outcome, VmDecision,
        text::{bounded, moment, quoted},
    },
    model::{FindingKind, Hold, Severity, Subject, Timestamp, World},
};

/// Of more of them the finding has the number only.
const NAMED: usize = 32;

pub(super) fn report(facts: &Facts<'_>, found: &mut Found) {
    let world = facts.world;
    let names = facts.vms.iter().map(|judged| judged.merged.vm.name.as_str());
    let listed = names.zip(facts.decision.vms.values()).filter_map(|(name, decision)| {
        Some((said(name, decision, decision.guard.held()?), decision.guard.held()?))
    });
    let strays = facts.decision.mitigations.held.iter().filter_map(|(uuid, hold)| {
        let pid = facts.decision.stray(*uuid)?.pid;
        Some((format!("process {pid}, which no inventory knows"), hold))
    });
    let held: Vec<(String, &Hold)> =
        listed.chain(strays.filter(|(_, hold)| !hold.is_approved())).collect();
    let counting = facts.decision.vms.values().any(|one| one.guard == Guard::Counting);
    let unkept = world.recorded.lost.as_ref().filter(|_| counting || !held.is_empty());
    let Some(since) = since(&held).or_else(|| unkept.map(|_| world.now)) else { return };
    let (left, open): (Vec<_>, Vec<_>) = held.iter().partition(|(_, hold)| hold.is_rejected());
    let (severity, title) = match open.len() {
        0 if unkept.is_none() => (
            Severity::Medium,
            format!(
                "{} do not meet the policy, and keep what they have by a person's word.",
                vms(left.len())
            ),
        ),
        count => (
            Severity::Critical,
            format!(
                "{} would be cut off, more than may be without a person: they keep what they have until one \
                 has looked at it.",
                vms(count)
            ),
        ),
    };
    let mut evidence = limits(world, facts);
    for (what, held) in [("held", open), ("left as it is", left)] {
        let named = held.iter().take(NAMED);
        evidence.extend(named.map(|(said, _)| pair(what, said)));
        if let Some(more) = held.len().checked_sub(NAMED).filter(|more| *more > 0) {
            evidence.push(pair(what, format!("and {more} more")));
        }
    }
    if let Some(why) = unkept {
        evidence.push(pair("cannot be written down", bounded(&why.why)));
    }
    let next = Some("detector mitigation list".to_owned());
    let kind = (FindingKind::BlastRadius, Subject::Host);
    found.add(finding(kind, severity, title, evidence, next, since));
}

fn since(held: &[(String, &Hold)]) -> Option<Timestamp> {
    held.iter().map(|(_, hold)| hold.since).min()
}

fn vms(count: usize) -> String {
    if count == 1 { "1 VM".to_owned() } else { format!("{count} VMs") }
}

fn limits(world: &World, facts: &Facts<'_>) -> Vec<(String, String)> {
    let Some(limits) = world.policy.blast else { return Vec::new() };
    let span = humantime::format_duration(limits.window);
    let said = format!("{} VMs or {} % of them within {span}", limits.vms, limits.percent);
    let mitigations = &facts.decision.mitigations;
    let strays =
        mitigations.taken.keys().filter(|uuid| facts.decision.stray(**uuid).is_some()).count();
    let vms = mitigations.taken.len() - strays;
    let mut evidence = vec![pair("limit", said), pair("cut off within that time", vms)];
    if strays > 0 {
        evidence.push(pair("kept from running on within that time", strays));
    }
    if let Some(until) = mitigations.blind_until {
        let until = moment(world.skew.day(until));
        evidence.push(pair("nobody knows what was cut off before, until", until));
    }
    evidence
}

fn said(name: &str, decision: &VmDecision, hold: &Hold) -> String {
    let failed = decision.requirements.iter().find(|one| one.outcome == Outcome::Failed);
    let why = failed.map_or("it fails a requirement", |one| one.finding.as_str());
    let by = hold.word.as_ref().filter(|word| !word.approves);
    let by =
        by.map_or_else(String::new, |word| format!(" (uid {}: {})", word.uid, bounded(&word.why)));
    format!("{}: {}{by}", quoted(name), bounded(why))
}
