//! The guard over mitigations: verdicts take away what VMs have from so many within some time, and what would
//! be more waits for a person. So a bad policy, a template that was revoked by mistake, or a registry that was
//! mistaken for another one, does not take an estate down.
//!
//! It is about what is *taken away*: a VM that was never let in is none of its business, and neither is what a
//! person does. Whom a verdict cuts off is counted once it is written down that it will be, so that no restart
//! makes anybody forget.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::{addr::Mac, quarantine::Cause, settings::Mode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Decision, Outcome, VmDecision, VmStatus, inventory::Merged, is_listed, ports,
    processes::knows_strays,
};
use crate::model::{
    BlastLimits, Curb, Curbed, Hold, Mitigations, PowerState, ProcessId, Processes,
    QuarantineTarget, Timestamp, World,
};

/// What a VM fails that no inventory knows.
const UNKNOWN_PROCESS: &str = "unknown-vm-process";

/// VMs that are remembered to be held.
const MOST_HELD: usize = 4096;

/// What the guard says of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// Nothing: what the verdict says is done.
    #[default]
    Clear,
    /// It loses what it has as soon as that is written down.
    Counting,
    /// It keeps what it has until a person has looked at it, or because one wants it so.
    Held(Hold),
}

impl Guard {
    /// Whether the VM keeps what it has.
    pub fn keeps(&self) -> bool {
        *self != Self::Clear
    }

    /// Why it does, as part of a sentence.
    pub(super) fn because(&self) -> Option<&'static str> {
        match self {
            Self::Clear => None,
            Self::Counting => Some("that it loses its network is being written down"),
            Self::Held(hold) if hold.is_rejected() => Some("a person leaves it as it is"),
            Self::Held(_) => Some(
                "too many VMs would be cut off without a person's approval (`detector mitigation list`)",
            ),
        }
    }

    pub fn held(&self) -> Option<&Hold> {
        match self {
            Self::Held(hold) => Some(hold),
            Self::Clear | Self::Counting => None,
        }
    }
}

/// VMs that would lose something, with the rules that they fail.
pub type Losers = BTreeMap<Uuid, BTreeSet<String>>;

impl Decision {
    /// The process that no inventory knows for which the UUID stands among VMs.
    pub fn stray(&self, uuid: Uuid) -> Option<ProcessId> {
        stray(uuid, |uuid| self.vms.contains_key(&uuid))
    }
}

/// The process that a UUID stands for: an inventory may have given a VM one that looks like it.
fn stray(uuid: Uuid, is_listed: impl Fn(Uuid) -> bool) -> Option<ProcessId> {
    ProcessId::of_uuid(uuid).filter(|_| !is_listed(uuid))
}

/// Lets verdicts take from as many VMs as the limits allow, and says what is to be written down.
///
/// `strays` are VMs that no inventory knows and that are to be kept from running on; those of which that cannot be yet
/// are taken out. They are counted by themselves, against the same limits: anybody may run as many as they like, and
/// uses nothing up of what is allowed for VMs of an inventory.
pub(super) fn apply(
    inventory: &[Merged<'_>],
    decisions: &mut [VmDecision],
    strays: &mut BTreeMap<ProcessId, Curb>,
    world: &World,
) -> Mitigations {
    let known = &world.recorded.mitigations;
    let Some(limits) = world.policy.blast else {
        return Mitigations { held: BTreeMap::new(), ..recent(known, None, world.now) };
    };
    let mut next = recent(known, Some(&limits), world.now);
    let in_force =
        if decisions.iter().any(is_bad) { InForce::new(world) } else { InForce::default() };
    let (mut losers, mut granted) = (Losers::new(), BTreeSet::new());
    // What no source lists at present is not forgotten.
    let stray = |uuid: &Uuid| stray(*uuid, |uuid| is_listed(inventory, uuid));
    let held = known.held.keys().filter(|uuid| stray(uuid).is_none());
    let mut stays: BTreeSet<Uuid> = held.take(MOST_HELD).copied().collect();
    for (merged, decision) in inventory.iter().zip(&*decisions) {
        let vm = merged.vm.as_ref();
        let has = in_force.of(vm);
        if has {
            granted.insert(vm.uuid);
        }
        let is_bad = is_bad(decision) && loses(decision, merged, has, world);
        let remains = is_bad || decision.status == VmStatus::Pending;
        if remains {
            stays.insert(vm.uuid)
        } else {
            stays.remove(&vm.uuid)
        };
        let acts = || {
            world.mode_of(vm) == Mode::Enforce
                && !world.is_under_maintenance()
                && !decision.is_spared(world.now)
        };
        if is_bad && acts() {
            losers.insert(vm.uuid, grounds(decision));
        }
    }
    // A process is there, or it never comes back; who cannot be judged now may be there.
    let knows = knows_strays(world);
    let may_be = |id: &ProcessId| {
        let Processes { scanned, lost, found, .. } = &world.processes;
        world.policy.curb.is_some() && (!scanned || lost.is_some() || found.contains_key(id))
    };
    let is_there = |uuid: &Uuid| {
        stray(uuid).is_some_and(|id| strays.contains_key(&id) || (!knows && may_be(&id)))
    };
    next.held.retain(|uuid, _| stays.contains(uuid) || is_there(uuid));
    // Of one that goes on all the same nothing was taken.
    let goes_on =
        |id: ProcessId| matches!(world.processes.curbed.get(&id), Some(Curbed::Refused(_)));
    next.taken.retain(|uuid, _| !stray(uuid).is_some_and(goes_on));
    // What was tried has nothing more to lose.
    let is_tried = |id: &ProcessId| world.processes.is_tried(*id);
    let fresh = strays.keys().filter(|id| !is_tried(id)).map(|id| id.uuid());
    let fresh: Losers = fresh.map(|uuid| (uuid, [UNKNOWN_PROCESS.to_owned()].into())).collect();

    let is_blind = next.blind_until.is_some() || world.recorded.lost.is_some();
    let taken: Vec<Uuid> = next.taken.keys().copied().collect();
    let (of_strays, of_vms): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|uuid| stray(uuid).is_some());
    for (losers, taken, mut all) in
        [(&losers, of_vms, granted), (&fresh, of_strays, BTreeSet::new())]
    {
        all.extend(taken.iter().chain(losers.keys()).copied());
        let allowed = if is_blind { 0 } else { limits.allowed(all.len()) };
        admit(&mut next, losers, limits, allowed.saturating_sub(taken.len()), world.now);
    }

    for (merged, decision) in inventory.iter().zip(decisions) {
        let uuid = merged.vm.uuid;
        if !losers.contains_key(&uuid) {
            continue;
        }
        decision.guard = said(uuid, known, &next);
    }
    strays.retain(|id, _| is_tried(id) || said(id.uuid(), known, &next) == Guard::Clear);
    next
}

/// What the guard says of one that is to lose something: nothing is taken before it is written down.
fn said(uuid: Uuid, known: &Mitigations, next: &Mitigations) -> Guard {
    let approved = known.held.get(&uuid).is_some_and(Hold::is_approved);
    match next.held.get(&uuid) {
        _ if known.taken.contains_key(&uuid) && next.taken.contains_key(&uuid) => Guard::Clear,
        Some(hold) if hold.is_approved() && approved => Guard::Clear,
        Some(hold) if !hold.is_approved() => Guard::Held(hold.clone()),
        _ => Guard::Counting,
    }
}

/// Takes from as many more as there is room for, and holds the others.
pub fn admit(
    next: &mut Mitigations,
    losers: &Losers,
    limits: BlastLimits,
    mut room: usize,
    now: Timestamp,
) {
    let mut fresh = Vec::new();
    for (uuid, grounds) in losers {
        if next.taken.contains_key(uuid) {
            next.held.remove(uuid);
            continue;
        }
        let stays = next.held.get(uuid).is_some_and(|hold| match &hold.word {
            Some(word) => word.approves || grounds.is_subset(&hold.grounds),
            // Who raises the limits has what they allow now done.
            None => limits.vms <= hold.limits.vms && limits.percent <= hold.limits.percent,
        });
        if !stays {
            fresh.push((uuid, grounds));
        } else if let Some(hold) = next.held.get_mut(uuid).filter(|hold| hold.word.is_none()) {
            // A person speaks of what is wrong by then.
            hold.grounds.clone_from(grounds);
        }
    }
    // What is wrong with few comes before what is wrong with many: a bad policy does not keep the one VM that
    // is really bad connected, and nobody chooses a UUID to come last.
    let alike = |grounds: &BTreeSet<String>| losers.values().filter(|one| *one == grounds).count();
    let mut sizes = BTreeMap::new();
    for (_, grounds) in &fresh {
        sizes.entry(*grounds).or_insert_with(|| alike(grounds));
    }
    fresh.sort_by_key(|(uuid, grounds)| (sizes[grounds], **uuid));
    for (uuid, grounds) in fresh {
        if let Some(left) = room.checked_sub(1) {
            room = left;
            next.taken.insert(*uuid, now);
            next.held.remove(uuid);
        } else {
            let since = next.held.get(uuid).map_or(now, |hold| hold.since);
            let grounds = grounds.clone();
            next.held.insert(*uuid, Hold { since, limits, grounds, word: None });
        }
    }
}

/// What still counts.
fn recent(known: &Mitigations, limits: Option<&BlastLimits>, now: Timestamp) -> Mitigations {
    let window = limits.map(|limits| limits.window).unwrap_or_default();
    // What lies ahead is no past: it counts as of now, and ends.
    let counts = |at: Timestamp| now < at.min(now) + window;
    let taken = known.taken.iter().filter(|(_, at)| counts(**at));
    Mitigations {
        taken: taken.map(|(uuid, at)| (*uuid, (*at).min(now))).collect(),
        held: known.held.clone(),
        blind_until: known.blind_until.map(|at| at.min(now + window)).filter(|at| now < *at),
    }
}

/// Whether a verdict may have taken something from it, or be about to.
fn is_bad(decision: &VmDecision) -> bool {
    decision.verdict == VmStatus::Denied
        && decision.responses.isolate
        && matches!(decision.status, VmStatus::Denied | VmStatus::Quarantined)
}

/// Whether the verdict takes something from it: its network while a grant is in force, or the power of one that
/// was cut off some time ago.
fn loses(decision: &VmDecision, merged: &Merged<'_>, in_force: bool, world: &World) -> bool {
    let vm = merged.vm.as_ref();
    match decision.status {
        VmStatus::Denied => in_force,
        VmStatus::Quarantined => {
            let held = world.observed.quarantines.get(&QuarantineTarget::Vm(vm.uuid));
            let earlier = |since: Timestamp| since < world.now;
            decision.responses.stops().is_some()
                && vm.power == PowerState::Running
                && !world.stopped.contains(&vm.uuid)
                && held.is_some_and(|one| one.cause == Cause::Verdict && earlier(one.since))
        }
        _ => false,
    }
}

fn grounds(decision: &VmDecision) -> BTreeSet<String> {
    let failed = decision.requirements.iter().filter(|one| one.outcome == Outcome::Failed);
    failed.map(|one| one.id.clone()).collect()
}

/// The MACs that are in force on ports, with the ports' names.
#[derive(Default)]
struct InForce<'a>(BTreeSet<(&'a str, Mac)>);

impl<'a> InForce<'a> {
    fn new(world: &'a World) -> Self {
        let links = world.links.values();
        let held = links.filter_map(|link| {
            let held = world.observed.interfaces.get(&link.ifindex)?;
            Some(ports::held_macs(held).map(|mac| (link.name.as_str(), mac)))
        });
        Self(held.flatten().collect())
    }

    fn of(&self, vm: &crate::model::Vm) -> bool {
        let mut nics = vm.nics.iter().filter_map(|nic| Some((nic.port.as_deref()?, nic.mac)));
        nics.any(|nic| self.0.contains(&nic))
    }
}
