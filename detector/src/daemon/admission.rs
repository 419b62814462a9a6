//! VMs that are about to start: libvirt's hook waits for the verdict on each.

use std::{collections::BTreeMap, time::Duration};

use detector_common::settings::Mode;
use detector_core::{
    decide::{PortStatus, Requirement, VmStatus},
    model::{Evidence, Health, MediumSource, PowerState, Timestamp, Vm},
};
use uuid::Uuid;

use super::{
    answer::{open, operand},
    brain::Brain,
    input::{AdmissionRules, Admit, CallId, Effect},
    links,
    sources::{runs, source_mut, stand_in, vouched},
    trail::entries,
};
use crate::{
    api::{
        Reply,
        view::{AdmissionOutcome, AdmissionView},
    },
    config::OnRefusal,
    enforcer::Enforcer,
    net::LinkEvent,
};

/// How long the hook's word stands against a source that does not know of the start yet: its
/// listing may have been made just before.
const PROVISIONAL: Duration = Duration::from_secs(30);

/// How long after libvirt has announced an incoming migration its process is ready at most.
const INCOMING: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Admissions {
    rules: AdmissionRules,
    waiting: Vec<Waiting>,
    provisional: BTreeMap<Uuid, Provisional>,
    /// VMs that come from another host, and since when they are expected.
    incoming: BTreeMap<Uuid, Timestamp>,
}

#[derive(Debug)]
struct Waiting {
    id: CallId,
    uuid: Uuid,
    deadline: Timestamp,
}

/// A VM that is in its source's inventory because the hook said so.
#[derive(Debug)]
struct Provisional {
    source: String,
    vm: Vm,
    until: Timestamp,
    /// What the source says itself, where that is something else.
    said: Option<Vm>,
    contradicted: bool,
}

impl Admissions {
    /// Answers by other rules from now on.
    pub(super) fn configure(&mut self, rules: AdmissionRules) {
        self.rules = rules;
    }

    pub(super) fn new(rules: AdmissionRules) -> Self {
        Self { rules, waiting: Vec::new(), provisional: BTreeMap::new(), incoming: BTreeMap::new() }
    }

    /// The next start of this VM is its arrival from another host.
    pub(super) fn expect(&mut self, uuid: Uuid, now: Timestamp) {
        self.incoming.retain(|_, since| now < *since + INCOMING);
        self.incoming.insert(uuid, now);
    }

    /// Takes what is said of a VM that is starting for what it is: one that arrives runs elsewhere
    /// until it runs here, and libvirt has no word for that before its process is ready. Whether it is on
    /// its way, or has just arrived.
    pub(super) fn arrival(&mut self, vm: &mut Vm, now: Timestamp) -> bool {
        let Some(since) = self.incoming.get(&vm.uuid) else { return false };
        match vm.power {
            PowerState::Starting if now < *since + INCOMING => {
                vm.power = PowerState::InTransit;
                true
            }
            PowerState::InTransit => true,
            // The domain of that name, before it is taken over.
            PowerState::Off => false,
            power => {
                self.incoming.remove(&vm.uuid);
                power != PowerState::Starting
            }
        }
    }

    /// Whether the hook's word gives way to what a source says of the VM. Where it does not, what
    /// the source says is kept for later.
    pub(super) fn yields(&mut self, source: &str, uuid: Uuid, said: Option<&Vm>) -> bool {
        let Some(held) = self.provisional.get_mut(&uuid) else { return true };
        if held.source != source {
            return true;
        }
        if said.is_some_and(runs) {
            self.provisional.remove(&uuid);
            return true;
        }
        held.said = said.cloned();
        held.contradicted = true;
        false
    }

    /// The same for everything that a source lists.
    pub(super) fn hold_against_listing(&mut self, source: &str, listed: &mut Vec<Vm>) {
        let held: Vec<_> = self
            .provisional
            .iter()
            .filter(|(_, held)| held.source == source)
            .map(|(uuid, held)| (*uuid, held.vm.clone()))
            .collect();
        for (uuid, provisional) in held {
            let said = listed.iter().find(|vm| vm.uuid == uuid);
            if !self.yields(source, uuid, said) {
                listed.retain(|vm| vm.uuid != uuid);
                listed.push(provisional);
            }
        }
    }

    /// The interface of this name is gone: the next one is another port, and nobody's word so far is
    /// about it.
    pub(super) fn forget_port(&mut self, name: &str) {
        let held = self.provisional.values_mut();
        for vm in held.flat_map(|held| std::iter::once(&mut held.vm).chain(&mut held.said)) {
            for nic in &mut vm.nics {
                nic.port.take_if(|port| port == name);
            }
        }
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let deadlines = self.waiting.iter().map(|waiting| waiting.deadline);
        let ends =
            self.provisional.values().filter(|held| held.contradicted).map(|held| held.until);
        deadlines.chain(ends).min()
    }
}

impl<E: Enforcer> Brain<E> {
    /// Takes in a VM that is about to start. The answer follows when the verdict is in force.
    pub(super) fn admit(&mut self, admit: Admit) {
        let now = self.world.now;
        let Admit { id, source: name, name: vm_name, vm, links, registry } = admit;
        if let Some(registry) = registry {
            self.world.registry = registry;
        }
        for link in links {
            links::take_in(self, LinkEvent::Seen(link));
        }
        let mut vm = match vm {
            Ok(vm) => vm,
            Err(why) => {
                let answer = self.undecided(&vm_name, None, &why);
                self.record(entries::admission(&vm_name, None, &answer));
                let reply = Ok(Reply::Admission(answer));
                return self.emit(Effect::Reply { id, reply, last: true });
            }
        };
        vm.power = PowerState::Starting;
        self.note_arrival(&mut vm);
        let source = source_mut(&mut self.world.sources, &name, now);
        let before = source.vms.get(&vm.uuid).cloned();
        if source.health == Health::Healthy {
            source.vms.insert(vm.uuid, vm.clone());
        } else {
            // What a lost source last said of the VM is out of date.
            source.vms.remove(&vm.uuid);
            let stand_in = self.world.sources.entry(stand_in(&name)).or_insert_with(vouched);
            stand_in.vms.insert(vm.uuid, vm.clone());
        }
        let uuid = vm.uuid;
        self.media.refresh(&mut self.world, &[uuid]);
        self.media.announce(uuid);
        let until = now + PROVISIONAL;
        let provisional =
            Provisional { source: name, vm, until, said: before, contradicted: false };
        self.admissions.provisional.insert(uuid, provisional);
        let deadline = now + self.admissions.rules.timeout;
        self.admissions.waiting.push(Waiting { id, uuid, deadline });
    }

    /// Lets the source's word stand where the hook's has had its time.
    pub(super) fn expire_provisional(&mut self) {
        let now = self.world.now;
        let ended: Vec<_> = self
            .admissions
            .provisional
            .iter()
            .filter(|(_, held)| held.until <= now)
            .map(|(uuid, held)| (*uuid, held.contradicted))
            .collect();
        for (uuid, contradicted) in ended {
            if contradicted {
                self.withdraw(uuid);
            } else {
                self.admissions.provisional.remove(&uuid);
            }
        }
    }

    /// Answers the hooks whose verdict is in force, and those whose time is up.
    pub(super) fn answer_admissions(&mut self) {
        let waiting = std::mem::take(&mut self.admissions.waiting);
        let mut refused = Vec::new();
        for waiting in waiting {
            let answer = match self.verdict(waiting.uuid) {
                None if waiting.deadline > self.world.now => {
                    self.admissions.waiting.push(waiting);
                    continue;
                }
                None => {
                    let name = self.name_of_vm(waiting.uuid);
                    self.undecided(&name, Some(waiting.uuid), "there is no verdict in time")
                }
                Some(answer) => answer,
            };
            let name = self.name_of_vm(waiting.uuid);
            self.record(entries::admission(&name, Some(waiting.uuid), &answer));
            if !answer.start {
                refused.push(waiting.uuid);
            }
            self.emit(Effect::Reply {
                id: waiting.id,
                reply: Ok(Reply::Admission(answer)),
                last: true,
            });
        }
        for uuid in refused {
            self.withdraw(uuid);
        }
    }

    fn withdraw(&mut self, uuid: Uuid) {
        if let Some(held) = self.admissions.provisional.remove(&uuid) {
            let now = self.world.now;
            if let Some(stand_in) = self.world.sources.get_mut(&stand_in(&held.source)) {
                stand_in.vms.remove(&uuid);
            }
            let source = source_mut(&mut self.world.sources, &held.source, now);
            match held.said {
                Some(vm) => source.vms.insert(uuid, vm),
                None => source.vms.remove(&uuid),
            };
        }
    }

    /// The answer, once there is a verdict and it is in force.
    fn verdict(&self, uuid: Uuid) -> Option<AdmissionView> {
        let vm = self.vm(uuid)?.1;
        let decision = self.decision.vms.get(&uuid)?;
        let in_force = vm.nics.iter().filter_map(|nic| nic.port.as_deref()).all(|port| {
            let Some(link) = self.world.links.values().find(|link| link.name == port) else {
                return true;
            };
            let planned = self.decision.desired.interfaces.contains_key(&link.ifindex);
            let guarded = self.world.observed.interfaces.contains_key(&link.ifindex);
            !planned || (guarded && !self.executor.is_behind(link.ifindex))
        });
        if in_force && self.is_being_provisioned(uuid) {
            let (outcome, why) = (AdmissionOutcome::Denied, "its provisioner has it run.");
            let effect = "starts cut off, whatever it boots from";
            return Some(answer_start(&vm.name, Some(uuid), true, outcome, effect, why));
        }
        if self.media.reads(vm) {
            return None;
        }
        let undecided = matches!(decision.status, VmStatus::Pending | VmStatus::Off);
        if undecided {
            let unreadable = vm.media.iter().any(|medium| match &medium.source {
                MediumSource::File(file) => {
                    matches!(self.world.evidence.get(file), Some(Evidence::Unreadable(_)))
                }
                MediumSource::Remote(_) => false,
            });
            return unreadable
                .then(|| self.undecided(&vm.name, Some(uuid), "its media cannot be read"));
        }
        if !in_force {
            return None;
        }
        if self.is_about_to_return(uuid) {
            return None;
        }
        if decision.status != VmStatus::Approved {
            return Some(self.denied(uuid));
        }
        let mut ports = self.decision.ports.values().filter(|port| port.vm == Some(uuid));
        let mute =
            ports.find(|port| !matches!(port.status, PortStatus::Granted | PortStatus::Kept));
        Some(match mute {
            Some(port) => {
                let why = format!("not all of its ports are granted. {}", port.why);
                self.undecided(&vm.name, Some(uuid), why.trim_end_matches('.'))
            }
            None => AdmissionView {
                start: true,
                outcome: AdmissionOutcome::Granted,
                message: String::new(),
            },
        })
    }

    fn denied(&self, uuid: Uuid) -> AdmissionView {
        let observing = self.world.mode() == Mode::Observe;
        let refuse = self.admissions.rules.denied == OnRefusal::Refuse && !observing;
        let decision = self.decision.vms.get(&uuid);
        let responses = decision.map(|decision| decision.responses.clone()).unwrap_or_default();
        let effect = match (observing, refuse) {
            (true, _) => "would be quarantined (mode is observe)",
            (false, true) => "may not start",
            (false, false) if !responses.isolate => "starts mute: the policy does not isolate it",
            (false, false) if responses.sandbox => {
                "starts quarantined: it speaks with the sandbox only"
            }
            (false, false) => "starts quarantined: it neither sends nor receives",
        };
        // What each rule asks, in its own words, and what was found instead.
        let requirements = decision.into_iter().flat_map(|decision| open(&decision.requirements));
        let why: Vec<_> = requirements.map(said).collect();
        let name = self.name_of_vm(uuid);
        let outcome = AdmissionOutcome::Denied;
        answer_start(&name, Some(uuid), !refuse, outcome, effect, &why.join(" "))
    }

    fn undecided(&self, name: &str, uuid: Option<Uuid>, why: &str) -> AdmissionView {
        let observing = self.world.mode() == Mode::Observe;
        let refuse = self.admissions.rules.on_timeout == OnRefusal::Refuse && !observing;
        let effect = match (observing, refuse) {
            (true, _) => "starts unjudged (mode is observe)",
            (false, true) => "may not start",
            (false, false) => "starts mute",
        };
        let outcome = AdmissionOutcome::Undecided;
        answer_start(name, uuid, !refuse, outcome, effect, &format!("{why}."))
    }

    fn name_of_vm(&self, uuid: Uuid) -> String {
        self.vm(uuid).map_or_else(|| uuid.to_string(), |(_, vm)| vm.name.clone())
    }
}

fn said(requirement: &Requirement) -> String {
    let Requirement { id, sentence, finding, .. } = requirement;
    if sentence.is_empty() || finding.contains(sentence.as_str()) {
        format!("[{id}] {finding}")
    } else {
        format!("[{id}] {sentence} {finding}")
    }
}

fn answer_start(
    name: &str,
    uuid: Option<Uuid>,
    start: bool,
    outcome: AdmissionOutcome,
    effect: &str,
    why: &str,
) -> AdmissionView {
    let mut message = format!("the VM {name} {effect}: {why}");
    if let Some(uuid) = uuid {
        message.push_str(&format!(" More: detector explain {}", operand(name, uuid)));
    }
    AdmissionView { start, outcome, message }
}
