//! Findings about VMs: rogue, unproven, deprecated, contradictory.

use std::collections::BTreeMap;

use detector_common::addr::Mac;

use super::{Facts, Found, finding, pair};
use crate::{
    decide::{
        Outcome, VmDecision, VmStatus,
        approval::{self, End},
        identity,
        lineage::{Lineage, Standing},
        ports::Judged,
        text::{bounded, explain, moment, quoted, quoted_path},
    },
    model::{
        AddressRule, Chain, Evidence, Finding, FindingKind, ImageFile, Link, MediumSource,
        PowerState, QuarantineTarget, Severity, Subject, Template, TemplateStatus, Timestamp, Vm,
        World,
    },
};

pub(super) fn report(facts: &Facts<'_>, found: &mut Found) {
    let links = facts.world.links.values();
    let host: BTreeMap<Mac, &Link> =
        links.filter_map(|link| Some((link.host_mac()?, link))).collect();
    // Both are in the order of the UUIDs.
    let decisions = facts.decision.vms.values();
    for ((judged, lineage), decision) in facts.vms.iter().zip(facts.lineages).zip(decisions) {
        let vm = &judged.merged.vm;
        entries(vm, facts.world.now, found);
        hosts_macs(vm, &host, facts.world.now, found);
        virtual_routers(judged, facts.world, found);
        if vm.power == PowerState::Off {
            continue;
        }
        if let Some(grace) = decision.grace.filter(|_| decision.is_spared(facts.world.now)) {
            found.wake_at(grace.until);
        }
        rogue(vm, decision, facts.world, found);
        errors(vm, decision, facts.world.now, found);
        no_evidence(vm, lineage, decision, facts.world.now, found);
        changed(vm, facts.world, found);
        conflicts(judged, lineage, facts.world.now, found);
        template(vm, lineage, decision, facts.world, found);
    }
}

fn rogue(vm: &Vm, decision: &VmDecision, world: &World, found: &mut Found) {
    let told = decision.responses.find;
    if !told || !matches!(decision.status, VmStatus::Denied | VmStatus::Quarantined) {
        return;
    }
    let failed = decision.requirements.iter().filter(|one| one.outcome == Outcome::Failed);
    let mut evidence: Vec<_> = failed.map(|one| (one.id.clone(), one.finding.clone())).collect();
    if evidence.is_empty() {
        return;
    }
    evidence.insert(0, pair("uuid", vm.uuid));
    evidence.push(pair("decided by", decision.rules.join(", ")));
    if let Some(grace) = decision.grace.filter(|_| decision.is_spared(world.now)) {
        evidence.push(pair("keeps what is in force until", moment(world.skew.day(grace.until))));
    }
    if let Some(hold) = decision.guard.held() {
        let who = if hold.is_rejected() {
            "a person leaves it as it is"
        } else {
            "until a person approves"
        };
        evidence.push(pair("keeps what is in force", who));
    }
    let record = world.observed.quarantines.get(&QuarantineTarget::Vm(vm.uuid));
    let title = format!("VM {} does not meet the policy.", quoted(&vm.name));
    let since = record.map_or(world.now, |record| record.since);
    found.add(about(vm, FindingKind::RogueVm, Severity::High, title, evidence, since));
}

/// Rules that cannot be evaluated deny, and somebody has to correct them.
fn errors(vm: &Vm, decision: &VmDecision, now: Timestamp, found: &mut Found) {
    if decision.errors.is_empty() {
        return;
    }
    let mut evidence = vec![pair("uuid", vm.uuid)];
    evidence.extend(decision.errors.iter().map(|(id, why)| pair(id, why)));
    let effect = match decision.verdict {
        VmStatus::Denied => "which denies, and spares it no response",
        _ => "so that the stricter of its answers holds",
    };
    let title =
        format!("A rule of the policy cannot be evaluated for VM {}, {effect}.", quoted(&vm.name));
    found.add(about(vm, FindingKind::PolicyError, Severity::High, title, evidence, now));
}

fn no_evidence(
    vm: &Vm,
    lineage: &Lineage<'_>,
    decision: &VmDecision,
    now: Timestamp,
    found: &mut Found,
) {
    let Some((path, why)) = lineage.gaps.unreadable else { return };
    if decision.status != VmStatus::Pending {
        return;
    }
    let title = format!(
        "What VM {} boots cannot be read: what is in force stays, nothing new is admitted.",
        quoted(&vm.name)
    );
    let evidence = vec![pair("uuid", vm.uuid), pair("medium", path.display()), pair("why", why)];
    found.add(about(vm, FindingKind::NoEvidence, Severity::Medium, title, evidence, now));
}

/// A change that proves nothing new is told all the same: nobody writes to these files while a VM runs.
fn changed(vm: &Vm, world: &World, found: &mut Found) {
    let mut evidence = Vec::new();
    for medium in &vm.media {
        let MediumSource::File(file) = &medium.source else { continue };
        let now = match (world.disturbed.get(file), another(vm, file, world)) {
            (Some(why), _) => format!("cannot be read any more: {}", bounded(why)),
            (None, Some((before, now))) => differs(before, now),
            (None, None) => continue,
        };
        evidence.push(pair(medium.role.as_str(), format!("{}: {now}", quoted_path(&file.path))));
    }
    if evidence.is_empty() {
        return;
    }
    evidence.insert(0, pair("uuid", vm.uuid));
    let name = quoted(&vm.name);
    let title = format!("What VM {name} has booted was replaced or rewritten while it runs.");
    found.add(about(vm, FindingKind::MediumChanged, Severity::High, title, evidence, world.now));
}

/// Whether something that it has booted shows something else by now.
pub(in crate::decide) fn has_another_medium(vm: &Vm, world: &World) -> bool {
    let files = vm.media.iter().filter_map(|medium| match &medium.source {
        MediumSource::File(file) => Some(file),
        MediumSource::Remote(_) => None,
    });
    let mut read = files.filter(|file| !world.disturbed.contains_key(*file));
    read.any(|file| another(vm, file, world).is_some())
}

/// What the file has shown when the VM began to run, and what it shows instead.
fn another<'a>(vm: &Vm, file: &ImageFile, world: &'a World) -> Option<(&'a Chain, &'a Chain)> {
    let before = world.booted.get(&vm.uuid)?.get(file)?;
    match world.evidence.get(file) {
        Some(Evidence::Chain(now)) => Some((before, now)),
        _ => None,
    }
}

fn differs(before: &Chain, now: &Chain) -> String {
    if before.digest != now.digest {
        format!("its base was sha256 {} and is sha256 {}", before.digest, now.digest)
    } else {
        let base = quoted_path(&now.base.path);
        format!("its layers are others, {} over {base}, of the same digest", now.overlays.len())
    }
}

fn conflicts(judged: &Judged<'_>, lineage: &Lineage<'_>, now: Timestamp, found: &mut Found) {
    let vm = &judged.merged.vm;
    let mut evidence = judged.merged.conflicts.clone();
    if let Standing::Proven(template) = lineage.standing {
        evidence.extend(lineage.rivals.iter().map(|rival| {
            let both = format!("{} and {}", quoted(&template.name()), quoted(&rival.name()));
            pair("templates of the same media", format!("{both}: the first, stricter one counts"))
        }));
        if let Some(declared) =
            vm.declared_template.as_deref().filter(|name| !template.is_named(name))
        {
            let (said, proven) = (quoted(declared), quoted(&template.name()));
            evidence.push(pair("declared template", format!("{said}, but {proven} is proven")));
        }
    }
    if !evidence.is_empty() {
        found.add(conflict(vm, evidence, now));
    }
}

/// A finding that contradictory statements about a VM make.
pub(super) fn conflict(vm: &Vm, evidence: Vec<(String, String)>, now: Timestamp) -> Finding {
    let name = quoted(&vm.name);
    let title = format!("Statements about VM {name} contradict each other: the strictest holds.");
    about(vm, FindingKind::Conflict, Severity::Medium, title, evidence, now)
}

fn template(
    vm: &Vm,
    lineage: &Lineage<'_>,
    decision: &VmDecision,
    world: &World,
    found: &mut Found,
) {
    let Some(template) = lineage.template() else { return };
    if let Some(until) = template.expires.and_then(|at| world.today().until(at)) {
        found.wake_at(world.now + until);
    }
    if template.status == TemplateStatus::Revoked && decision.status == VmStatus::Pending {
        revoked(vm, template, world, found);
    }
    if template.status == TemplateStatus::Deprecated && decision.status == VmStatus::Approved {
        let name = quoted(&vm.name);
        let title = format!("VM {name} descends from the deprecated {}.", quoted(&template.name()));
        let mut evidence = vec![pair("uuid", vm.uuid), pair("template", template.name())];
        evidence.extend(template.reason.iter().map(|reason| pair("reason", reason)));
        let kind = FindingKind::DeprecatedTemplate;
        found.add(about(vm, kind, Severity::Low, title, evidence, world.now));
    }
}

/// A VM that is not cut off although its template is revoked.
fn revoked(vm: &Vm, template: &Template, world: &World, found: &mut Found) {
    let mut evidence = vec![pair("uuid", vm.uuid), pair("template", template.name())];
    evidence.extend(template.reason.iter().map(|reason| pair("reason", reason)));
    evidence.extend(template.since.map(|since| pair("revoked", moment(since))));
    let until = match approval::end(template, &world.policy) {
        End::At(end) => {
            // It is pending for another reason.
            let Some(until) = world.today().until(end) else { return };
            found.wake_at(world.now + until);
            evidence.push(pair("deadline", moment(end)));
            format!("until {}", moment(end))
        }
        End::Never => "as the policy says".to_owned(),
        // It is pending for another reason.
        End::Now => return,
    };
    let title = format!(
        "VM {} descends from the revoked {}; what is in force stays {until}.",
        quoted(&vm.name),
        quoted(&template.name())
    );
    let since = template.since.map_or(world.now, |since| world.skew.moment(since)).min(world.now);
    found.add(about(vm, FindingKind::RevokedTemplate, Severity::High, title, evidence, since));
}

fn entries(vm: &Vm, now: Timestamp, found: &mut Found) {
    for nic in vm.nics.iter().filter(|nic| identity::has_refused(nic)) {
        let refused = identity::refused(nic).into_iter();
        let evidence = refused.map(|entry| (format!("NIC {}", nic.mac), entry)).collect();
        let title = format!("VM {} lists what no NIC can have as a source.", quoted(&vm.name));
        found.add(about(vm, FindingKind::EntryRejected, Severity::Low, title, evidence, now));
    }
}

/// A NIC with a MAC of the host's is granted nothing.
fn hosts_macs(vm: &Vm, host: &BTreeMap<Mac, &Link>, now: Timestamp, found: &mut Found) {
    for (nic, link) in vm.nics.iter().filter_map(|nic| Some((nic, host.get(&nic.mac)?))) {
        let evidence =
            vec![pair(&format!("NIC {}", nic.mac), format!("the MAC of {}", quoted(&link.name)))];
        let title = format!("VM {} lists a MAC that is the host's own.", quoted(&vm.name));
        found.add(about(vm, FindingKind::EntryRejected, Severity::Medium, title, evidence, now));
    }
}

/// What routers share is learned by none of them.
fn virtual_routers(judged: &Judged<'_>, world: &World, found: &mut Found) {
    let vm = &judged.merged.vm;
    for nic in vm.nics.iter().filter(|nic| nic.vrrp) {
        let rule = identity::rule(nic, judged.default_rule(nic, world));
        if !matches!(rule, AddressRule::Dhcp | AddressRule::FirstCome) {
            continue;
        }
        let way_out = format!(
            "vrrp with the rule {}: set the rule \"exact\" and list its addresses, shared ones too",
            rule.as_str()
        );
        let evidence = vec![(format!("NIC {}", nic.mac), way_out)];
        let title = format!(
            "VM {} learns its addresses, and those of a virtual router are not learned.",
            quoted(&vm.name)
        );
        let (kind, now) = (FindingKind::EntryRejected, world.now);
        found.add(about(vm, kind, Severity::Medium, title, evidence, now));
    }
}

fn about(
    vm: &Vm,
    kind: FindingKind,
    severity: Severity,
    title: String,
    evidence: Vec<(String, String)>,
    since: Timestamp,
) -> Finding {
    finding((kind, Subject::Vm(vm.uuid)), severity, title, evidence, Some(explain(vm)), since)
}
