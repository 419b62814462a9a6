//! From what is known to what should be: pure, and able to say why.
//!
//! What holds throughout:
//!
//! - A verdict in force stays until another verdict falls. A port whose VM no source lists, whose
//!   source or whose manifests are lost, or whose media are being read or cannot be, keeps what this
//!   very port instance has ([`PortPlan::Keep`]); one that has nothing gets nothing.
//! - Only a positive statement takes a grant away: the VM is off, fails a requirement, is
//!   quarantined, or sources contradict each other about it.
//! - The mode changes neither verdict nor plan. It decides whether a denial is recorded as a
//!   quarantine, which only a person lifts: in observe mode a denial ends with its reason, and what was
//!   recorded while enforcing was provisional goes where that is not confirmed. Under maintenance a denial
//!   takes nothing away and grants nothing.

mod approval;
mod conduct;
mod contests;
mod devices;
mod findings;
mod grace;
mod guard;
mod identity;
mod interfaces;
mod inventory;
mod learning;
mod lineage;
mod mode;
pub mod policy;
mod ports;
mod processes;
pub mod profile;
mod quarantines;
mod requirements;
mod shields;
mod text;
mod unbridged;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use self::interfaces::{Class, classify, switched};
pub use self::{
    findings::{ENRICHED, OF_CLAIMS, findings_of_port, kind_of_claim, layers},
    grace::Grace,
    guard::{Guard, Losers, admit},
    lineage::is_image_in_force,
    processes::ProcessOwner,
};
pub use text::show_port;

use detector_common::{addr::Mac, settings::Mode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::{
    findings::Facts,
    inventory::Merged,
    lineage::{Images, Lineage, Standing},
    policy::{Facts as PolicyFacts, Responses},
    ports::{Judged, Ports},
    requirements::Case,
};
use crate::{
    model::{
        AddressRule, Curb, Finding, ImageFile, Link, LinkKind, Mitigations, PowerState, ProcessId,
        QuarantineTarget, Template, TemplateStatus, Timestamp, Vm, World,
    },
    reconcile::{Desired, InterfacePlan, PortPlan},
};

/// What follows from a [`World`].
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub desired: Desired,
    pub vms: BTreeMap<Uuid, VmDecision>,
    /// Guest ports by ifindex.
    pub ports: BTreeMap<u32, PortDecision>,
    /// Interfaces of VMs that are on no bridge, by ifindex.
    pub loose: BTreeSet<u32>,
    /// Which VM each process is.
    pub processes: BTreeMap<ProcessId, ProcessOwner>,
    /// Those that are to be kept from running on.
    pub curb: BTreeMap<ProcessId, Curb>,
    /// The VMs that each MAC is listed for, sorted.
    macs: Vec<(Mac, Uuid)>,
    /// None while the decision is being acted upon.
    pub findings: Vec<Finding>,
    /// What is to be written down of mitigations before more are carried out.
    pub mitigations: Mitigations,
    /// Media whose evidence is wanted and not in the world yet.
    pub wanted: BTreeSet<ImageFile>,
    /// When the same world would lead to another decision by the passing of time alone.
    pub wake_at: Option<Timestamp>,
}

impl Decision {
    /// The VMs that the MAC is listed for, in the order of their UUIDs.
    fn owners_of(&self, mac: Mac) -> impl Iterator<Item = Uuid> {
        let first = self.macs.partition_point(|(other, _)| *other < mac);
        self.macs[first..].iter().take_while(move |(other, _)| *other == mac).map(|(_, vm)| *vm)
    }
}

/// The verdict on a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmDecision {
    pub status: VmStatus,
    /// What the rules say of it, whether it runs or is quarantined, or not.
    pub verdict: VmStatus,
    /// The template that it descends from, where one is proven or declared.
    pub template: Option<String>,
    /// The version of it, where the template is registered and has one.
    #[serde(default)]
    pub template_version: Option<String>,
    /// Every requirement, met or not, in the order of the policy.
    pub requirements: Vec<Requirement>,
    /// The rules that decided: those that permit it, those that forbid it, or those that cannot be
    /// answered yet.
    pub rules: Vec<String>,
    /// What becomes of it where it fails a requirement.
    pub responses: Responses,
    /// The grace period of a VM that is denied with a grant in force.
    pub grace: Option<Grace>,
    /// Whether it keeps what it has all the same.
    #[serde(default)]
    pub guard: Guard,
    /// By which rule its NICs get addresses, in their order; `None` where the policy does not say.
    pub address_rules: Vec<Option<AddressRule>>,
    /// Rules that could not be evaluated, and why.
    pub errors: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmStatus {
    /// Meets every requirement; its ports are granted.
    Approved,
    /// Evidence is still being gathered; its ports are mute.
    Pending,
    /// Fails a requirement; its ports are isolated.
    Denied,
    /// Quarantined, whatever the requirements say by now.
    Quarantined,
    /// Does not run.
    Off,
}

/// One thing that the policy asks of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Stable name of the rule.
    pub id: String,
    pub outcome: Outcome,
    /// What the rule asks, in its own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sentence: String,
    /// What was found, in a sentence for people.
    pub finding: String,
    /// What would meet the requirement; empty when it is met, or follows once others are.
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Met,
    Failed,
    /// Cannot be said yet: evidence is missing.
    Unknown,
}

/// What is in store for a port, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDecision {
    pub status: PortStatus,
    /// The VM that it belongs to.
    pub vm: Option<Uuid>,
    /// One sentence for people.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortStatus {
    /// Its identity is granted.
    Granted,
    /// No verdict yet: mute.
    Pending,
    /// Quarantined: neither sends nor receives.
    Isolated,
    /// In force since before its source was lost or forgot it.
    Kept,
}

/// Decides.
pub fn decide(world: &World) -> Decision {
    decide_and_act(world, |_| true)
}

/// Decides, and hands the decision to `act` before its findings are drawn: what has to be done does not
/// wait for what has to be told. Where `act` says that the decision does not stand, because the world
/// has changed with it, nothing is told; the findings are those of the next one.
pub fn decide_and_act(world: &World, act: impl FnOnce(&Decision) -> bool) -> Decision {
    let inventory = inventory::merge(&world.sources, world.policy.default_rule);
    let images = Images::new(world);
    let lineages: Vec<_> =
        inventory.iter().map(|merged| Lineage::trace(&merged.vm, &images, world)).collect();
    let links = policy::links_by_name(world);
    let mut decisions: Vec<_> = inventory
        .iter()
        .zip(&lineages)
        .map(|(merged, lineage)| judge(&merged.vm, lineage, world, &links))
        .collect();
    let processes = processes::owners(world, &inventory);
    let mut curb = processes::strays(world, &processes);
    let mitigations = guard::apply(&inventory, &mut decisions, &mut curb, world);
    world.rules.rules.forget_others(|uuid| is_listed(&inventory, uuid));
    let judged: Vec<_> = inventory
        .iter()
        .zip(&decisions)
        .map(|(merged, decision)| Judged {
            merged,
            status: decision.status,
            responses: decision.responses.clone(),
            spared: decision.grace.filter(|_| decision.is_spared(world.now)),
            guard: decision.guard.clone(),
            address_rules: decision.address_rules.clone(),
        })
        .collect();

    let classes = classify(&world.links, &world.policy);
    let guests = classes.iter().filter(|(_, class)| *class == Class::Guest).map(|(link, _)| *link);
    let mut ports = Ports::new(world, &inventory, &judged).plan(guests);
    let protected = learning::protected(&ports, world);
    let wanted = lineage::wanted(&inventory, &lineages, world);
    let quarantines = quarantines::in_force(&inventory, &decisions, world);

    let between_hosts: BTreeSet<Uuid> = inventory
        .iter()
        .filter(|merged| merged.vm.power == PowerState::InTransit)
        .map(|merged| merged.vm.uuid)
        .collect();
    let mut in_transit = BTreeSet::new();
    let is_switched = switched(&world.links);
    let (mut switched, mut reflected) = (BTreeSet::new(), BTreeSet::new());
    let mut observed = BTreeSet::new();
    let mut interfaces = BTreeMap::new();
    let mut port_decisions = BTreeMap::new();
    let mut planned = ports.iter_mut();
    for (link, class) in classes {
        // A port of guests is observed by what is said of their VMs, too.
        let is_guest = class == Class::Guest;
        if !is_guest && world.local(world.bridge_of(link), []) == Mode::Observe {
            observed.insert(link.ifindex);
        }
        if link.kind == LinkKind::MacvtapVepa {
            reflected.insert(link.ifindex);
        }
        if matches!(class, Class::Bridge | Class::Uplink | Class::Guest) && is_switched(link) {
            switched.insert(link.ifindex);
        }
        let plan = match class {
            Class::Bridge => InterfacePlan::Bridge,
            Class::Uplink => InterfacePlan::Uplink,
            Class::Trusted => InterfacePlan::Trusted,
            Class::Device { trusted } => InterfacePlan::Device(devices::plan(link, trusted, world)),
            Class::Sandbox => InterfacePlan::Sandbox,
            // Planned in the order of the links.
            Class::Guest => match planned.next() {
                Some(port) => {
                    if port.mode(world, &judged) == Mode::Observe {
                        observed.insert(link.ifindex);
                    }
                    let (plan, decision) = port.take();
                    if decision.vm.is_some_and(|vm| between_hosts.contains(&vm)) {
                        in_transit.insert(link.ifindex);
                    }
                    port_decisions.insert(link.ifindex, decision);
                    InterfacePlan::Guest(plan)
                }
                None => InterfacePlan::Guest(PortPlan::Pending),
            },
        };
        interfaces.insert(link.ifindex, (link.name.clone(), plan));
    }
    let vms = inventory.iter().map(|merged| merged.vm.uuid).zip(decisions).collect();
    let shields = shields::wanted(world, &interfaces, &observed);
    let mut decision = Decision {
        desired: Desired {
            mode: Some(mode::wanted(world)),
            interfaces,
            make_sandbox: interfaces::to_make(world),
            observed,
            switched,
            reflected,
            in_transit,
            protected,
            services: interfaces::offered(world),
            quarantines,
            shields,
        },
        vms,
        ports: port_decisions,
        loose: unbridged::loose(judged.iter().map(|one| one.merged.vm.as_ref()), world),
        processes,
        curb,
        macs: macs(&inventory),
        findings: Vec::new(),
        mitigations,
        wanted,
        wake_at: None,
    };
    if act(&decision) {
        let facts =
            Facts { world, vms: &judged, lineages: &lineages, decision: &decision, ports: &ports };
        (decision.findings, decision.wake_at) = findings::collect(&facts);
    }
    decision
}

fn judge(
    vm: &Vm,
    lineage: &Lineage<'_>,
    world: &World,
    links: &BTreeMap<&str, &Link>,
) -> VmDecision {
    let (policy, registry) = (&world.policy, &world.registry);
    let revoked = |template: &Template| template.status == TemplateStatus::Revoked;
    let in_force = lineage.template().is_some_and(revoked) && approval::is_in_force(vm, world);
    let case = Case { vm, lineage, policy, registry, today: world.today(), in_force };
    let rules = &world.rules.rules;
    let verdict = rules.judge(PolicyFacts::of(&case, world, links));
    let requirements = requirements::describe(&case, rules, &verdict);
    let status = if world.observed.quarantines.contains_key(&QuarantineTarget::Vm(vm.uuid)) {
        VmStatus::Quarantined
    } else if vm.power == PowerState::Off {
        VmStatus::Off
    } else {
        verdict.status()
    };
    let verdict_status = verdict.status();
    let grace =
        (status == VmStatus::Denied).then(|| Grace::of(vm, &verdict.responses, world)).flatten();
    let template = match lineage.standing {
        Standing::Proven(template) | Standing::Declared(_, Some(template)) => {
            Some(template.id.clone())
        }
        Standing::Declared(id, None) => Some(id.to_owned()),
        Standing::Open | Standing::None => None,
    };
    let template_version = lineage.template().and_then(|template| template.version.clone());
    VmDecision {
        status,
        verdict: verdict_status,
        template,
        template_version,
        requirements,
        rules: verdict.decided_by.clone(),
        responses: verdict.responses.clone(),
        grace,
        guard: Guard::Clear,
        address_rules: verdict.address_rules.clone(),
        errors: verdict.errors.clone(),
    }
}

/// The VMs of the inventory are in the order of their UUIDs.
fn is_listed(inventory: &[Merged<'_>], uuid: Uuid) -> bool {
    inventory.binary_search_by_key(&uuid, |merged| merged.vm.uuid).is_ok()
}

fn macs(inventory: &[Merged<'_>]) -> Vec<(Mac, Uuid)> {
    let nics = |merged: &Merged<'_>| merged.vm.nics.len();
    let mut macs = Vec::with_capacity(inventory.iter().map(nics).sum());
    for merged in inventory {
        macs.extend(merged.vm.nics.iter().map(|nic| (nic.mac, merged.vm.uuid)));
    }
    macs.sort_unstable();
    macs
}
