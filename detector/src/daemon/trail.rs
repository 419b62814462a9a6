//! What has been decided, for the audit: whatever has changed since it was told last.

pub(super) mod entries;
mod pace;

use std::{collections::BTreeMap, sync::Arc};

use detector_core::{
    decide::{Grace, PortStatus, VmStatus, policy::Rules},
    model::{
        Finding, FindingKey, FindingKind, Hold, Observed, ObservedMode, Quarantine,
        QuarantineTarget, Registry, Severity, Subject, Timestamp,
    },
};
use uuid::Uuid;

use super::{brain::Brain, input::Effect};
use crate::{
    audit::{Entry, Trouble},
    enforcer::Enforcer,
    inventory::{NotDone, Power},
};
use entries::Words;
use pace::Pace;

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Trail {
    vms: BTreeMap<Uuid, Told<VmStatus>>,
    /// By ifindex and instance.
    ports: BTreeMap<(u32, u32), Told<PortStatus>>,
    quarantines: BTreeMap<QuarantineTarget, Quarantine>,
    mode: Option<ObservedMode>,
    graces: BTreeMap<Uuid, Grace>,
    /// What was told of VMs that are held.
    held: BTreeMap<Uuid, &'static str>,
    registry: Option<Registry>,
    /// The policy in force, and its digest.
    rules: Option<(Arc<Rules>, String)>,
    pace: Pace,
    trouble: BTreeMap<&'static str, (Timestamp, String)>,
    /// Records of remediations that were dropped, and since when.
    dropped: Option<(Timestamp, u64)>,
}

/// The status that was told, and the name that goes with it.
#[derive(Debug)]
struct Told<Status> {
    status: Status,
    name: String,
}

impl Trail {
    /// What is in force at the start has been decided, and told, before.
    pub(super) fn new(observed: &Observed) -> Self {
        Self { quarantines: observed.quarantines.clone(), ..Self::default() }
    }

    /// Takes in what is wrong with the audit now, all of it.
    pub(super) fn troubled(&mut self, now: Timestamp, trouble: Trouble) {
        let since = |name: &str| self.trouble.get(name).map_or(now, |(since, _)| *since);
        let trouble = trouble.into_iter().map(|(name, why)| (name, (since(name), why)));
        self.trouble = trouble.collect();
    }

    /// Takes in how many more records of remediations were dropped.
    pub(super) fn dropped(&mut self, now: Timestamp, records: u64) {
        let (_, known) = self.dropped.get_or_insert((now, 0));
        *known = known.saturating_add(records);
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        let told = |name: &str, since: Timestamp, why: String| Finding {
            key: FindingKey {
                kind: FindingKind::AuditImpaired,
                subject: Subject::Place(format!("audit ({name})")),
            },
            severity: Severity::High,
            title: format!("{} What is enforced does not depend on it.", entries::trouble(name)),
            evidence: vec![("why".to_owned(), why)],
            next: Some("detector audit verify".to_owned()),
            since,
        };
        let dropped = self.dropped.map(|(since, records)| {
            let why = format!("{records} records of remediations were dropped, the oldest first");
            told("dropped", since, why)
        });
        let trouble = self.trouble.iter();
        trouble.map(move |(name, (since, why))| told(name, *since, why.clone())).chain(dropped)
    }
}

impl<E: Enforcer> Brain<E> {
    /// Puts on record what has changed since the last time.
    pub(super) fn follow_decisions(&mut self) {
        let mut trail = std::mem::take(&mut self.trail);
        let mut entries = Vec::new();
        self.follow_rules(&mut trail, &mut entries);
        self.follow_standing(&mut trail, &mut entries);
        self.follow_verdicts(&mut trail, &mut entries);
        self.follow_ports(&mut trail, &mut entries);
        self.trail = trail;
        for entry in entries {
            self.record(entry);
        }
    }

    pub(super) fn record(&mut self, entry: Entry) {
        self.emit(Effect::Record(Box::new(entry)));
    }

    /// A VM is to be suspended or ended, or what has come of it.
    pub(super) fn record_stop(
        &mut self,
        uuid: Uuid,
        power: Power,
        guest_asked: Option<Timestamp>,
        result: Option<Result<(), NotDone>>,
    ) {
        let name = self.vm(uuid).map_or_else(String::new, |(_, vm)| vm.name.clone());
        self.record(entries::stop(uuid, &name, (power, guest_asked), result));
    }

    /// A person has said something of a VM that is held: it may not be any more when decisions are looked at next.
    pub(super) fn record_word(&mut self, uuid: Uuid, hold: &Hold) {
        let state = entries::hold_state(hold);
        let before = self.trail.held.insert(uuid, state);
        let name = self.vm(uuid).map_or_else(String::new, |(_, vm)| vm.name.clone());
        self.record(entries::held(uuid, &name, before, Some(hold)));
    }

    /// Templates and policy.
    fn follow_rules(&self, trail: &mut Trail, entries: &mut Vec<Entry>) {
        let rules = &self.world.rules.rules;
        if !trail.rules.as_ref().is_some_and(|(told, _)| Arc::ptr_eq(told, rules)) {
            let digest = entries::digest(rules);
            let before = trail.rules.replace((Arc::clone(rules), digest.clone()));
            let before = before.map(|(_, digest)| digest);
            if before.as_ref() != Some(&digest) {
                let origin = self.world.rules.origin.as_deref();
                entries.push(entries::policy(before, &digest, rules, origin));
            }
        }
        if trail.registry.as_ref() != Some(&self.world.registry) {
            let before = trail.registry.replace(self.world.registry.clone());
            entries::templates(before.as_ref(), &self.world.registry, entries);
        }
    }

    /// The mode, and quarantines.
    fn follow_standing(&self, trail: &mut Trail, entries: &mut Vec<Entry>) {
        let observed = &self.world.observed;
        if let Some(mode) = &observed.mode
            && trail.mode.as_ref().is_none_or(|told| differs(told, mode))
        {
            entries.push(entries::mode(trail.mode.as_ref(), mode));
            trail.mode = Some(mode.clone());
        }
        if trail.quarantines == observed.quarantines {
            return;
        }
        let words = Words { world: &self.world };
        for (target, quarantine) in &trail.quarantines {
            if observed.quarantines.get(target) != Some(quarantine)
                && !observed.quarantines.contains_key(target)
            {
                entries.push(words.quarantine(quarantine, None));
            }
        }
        for (target, quarantine) in &observed.quarantines {
            let before = trail.quarantines.get(target);
            if before != Some(quarantine) {
                entries.push(words.quarantine(before.unwrap_or(quarantine), Some(quarantine)));
            }
        }
        trail.quarantines.clone_from(&observed.quarantines);
    }

    fn follow_verdicts(&self, trail: &mut Trail, entries: &mut Vec<Entry>) {
        let (now, vms) = (self.world.now, &self.decision.vms);
        let words = Words { world: &self.world };
        for (uuid, decision) in vms {
            let before = trail.vms.get(uuid).map(|told| told.status);
            if before != Some(decision.status) && trail.pace.may(pace::Whose::Vm(*uuid), now) {
                let name = self.vm(*uuid).map_or_else(String::new, |(_, vm)| vm.name.clone());
                let policy = trail.rules.as_ref().map(|(_, digest)| digest.as_str());
                entries.push(words.vm(*uuid, &name, before, decision, policy));
                trail.vms.insert(*uuid, Told { status: decision.status, name });
            }
            let begun = trail.graces.get(uuid).copied();
            if begun != decision.grace {
                let name = trail.vms.get(uuid).map_or("", |told| told.name.as_str());
                entries.push(entries::grace(*uuid, name, begun, decision.grace));
                match decision.grace {
                    Some(grace) => trail.graces.insert(*uuid, grace),
                    None => trail.graces.remove(uuid),
                };
            }
        }
        // Until everything is known again that was before a start, nothing is over.
        let held = &self.decision.mitigations.held;
        for (uuid, hold) in held {
            let state = entries::hold_state(hold);
            let before = trail.held.insert(*uuid, state);
            if before != Some(state) {
                let name = trail.vms.get(uuid).map_or("", |told| told.name.as_str());
                entries.push(entries::held(*uuid, name, before, Some(hold)));
            }
        }
        let over = trail.held.extract_if(.., |uuid, _| !held.contains_key(uuid));
        for (uuid, before) in over.collect::<Vec<_>>() {
            let name = trail.vms.get(&uuid).map_or("", |told| told.name.as_str());
            entries.push(entries::held(uuid, name, Some(before), None));
        }
        trail.graces.retain(|uuid, _| vms.contains_key(uuid));
        trail.vms.retain(|uuid, told| {
            let is_listed = vms.contains_key(uuid);
            if !is_listed {
                entries.push(entries::unlisted(*uuid, &told.name, told.status));
            }
            is_listed
        });
    }

    fn follow_ports(&self, trail: &mut Trail, entries: &mut Vec<Entry>) {
        let words = Words { world: &self.world };
        let instance = |ifindex: &u32| {
            let held = self.world.observed.interfaces.get(ifindex)?;
            Some((*ifindex, held.slot.instance))
        };
        let mut present = std::collections::BTreeSet::new();
        for (ifindex, decision) in &self.decision.ports {
            // Before its guard is attached it is no port yet.
            let Some(port) = instance(ifindex) else { continue };
            present.insert(port);
            let before = trail.ports.get(&port).map(|told| told.status);
            if before != Some(decision.status)
                && trail.pace.may(pace::Whose::Port(port), self.world.now)
            {
                let link = self.world.links.get(ifindex);
                let name = link.map_or_else(String::new, |link| link.name.clone());
                entries.push(words.port(port, &name, before, decision));
                trail.ports.insert(port, Told { status: decision.status, name });
            }
        }
        trail.ports.retain(|port, told| {
            let is_present = present.contains(port);
            if !is_present {
                entries.push(entries::gone(*port, &told.name, told.status));
            }
            is_present
        });
        trail.pace.forget_others(&self.decision.vms, &present);
    }
}

/// Whether it is another mode, or another's word; the moments at which it ends move with the clock.
fn differs(told: &ObservedMode, mode: &ObservedMode) -> bool {
    told.record != mode.record
        || told.lapsed != mode.lapsed
        || told.maintenance.is_some() != mode.maintenance.is_some()
}
