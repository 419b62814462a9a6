//! What each guest port should be, from the verdict on the VM that it belongs to.

use std::collections::BTreeSet;

use detector_common::{
    addr::Mac,
    port::{PortSlot, flags},
    quarantine::QuarantineMode,
    settings::Mode,
};

use super::{
    Grace, Guard, PortDecision, PortStatus, VmStatus, contests, identity, interfaces,
    inventory::Merged,
    learning,
    policy::Responses,
    quarantines,
    text::{bounded, moment, quoted},
};
use crate::{
    model::{AddressRule, Link, Nic, ObservedInterface, PowerState, QuarantineTarget, World},
    reconcile::{Identity, Isolation, Isolator, Learning, PortPlan, Sandbox},
};

/// A VM with the verdict on it.
pub(super) struct Judged<'a> {
    pub(super) merged: &'a Merged<'a>,
    pub(super) status: VmStatus,
    pub(super) responses: Responses,
    /// It is denied, and keeps what is in force for now.
    pub(super) spared: Option<Grace>,
    pub(super) guard: Guard,
    /// Of each NIC, where the policy says how it gets its addresses.
    pub(super) address_rules: Vec<Option<AddressRule>>,
}

impl Judged<'_> {
    /// Why it keeps what is in force though it is denied.
    fn keeps(&self, world: &World) -> Option<String> {
        if let Some(grace) = self.spared {
            let until = moment(world.skew.day(grace.until));
            return Some(format!("the policy gives it until {until}"));
        }
        if !self.responses.isolate {
            return Some("the policy does not isolate it".to_owned());
        }
        self.guard.because().map(str::to_owned)
    }

    /// The rule of a NIC whose source says nothing of its addresses.
    pub(super) fn default_rule(&self, nic: &Nic, world: &World) -> AddressRule {
        let nics = self.merged.vm.nics.iter().zip(&self.address_rules);
        let mut chosen = nics.filter(|(one, _)| *one == nic);
        chosen.find_map(|(_, rule)| *rule).unwrap_or(world.policy.default_rule)
    }
}

/// A guest port and what is in store for it.
pub(super) struct Port<'a> {
    pub(super) link: &'a Link,
    /// 0 while it has none.
    pub(super) instance: u32,
    pub(super) observed: Option<&'a ObservedInterface>,
    /// The VMs whose sources name this port, by their place in the list of VMs.
    pub(super) claimants: Vec<usize>,
    pub(super) plan: PortPlan,
    pub(super) decision: PortDecision,
    /// Its MACs that another port is named for too.
    pub(super) contested: Vec<Mac>,
}

/// Everything that the plan of a port follows from.
pub(super) struct Ports<'a> {
    world: &'a World,
    vms: &'a [Judged<'a>],
    /// NICs with a port, by its name.
    claims: Vec<(&'a str, usize, &'a Nic)>,
    /// The MACs of the host itself, which no NIC is granted.
    host_macs: BTreeSet<Mac>,
    unaccounted: bool,
    /// ifindex of the sandbox's bridge.
    sandbox: Option<u32>,
}

impl<'a> Ports<'a> {
    pub(super) fn new(world: &'a World, inventory: &[Merged<'_>], vms: &'a [Judged<'a>]) -> Self {
        let mut claims: Vec<_> = vms
            .iter()
            .enumerate()
            .flat_map(|(number, judged)| {
                let nics = judged.merged.vm.nics.iter();
                nics.filter_map(move |nic| Some((nic.port.as_deref()?, number, nic)))
            })
            .collect();
        claims.sort_by_key(|(port, number, _)| (*port, *number));
        let unaccounted = quarantines::any_unaccounted(&world.observed, inventory);
        let sandbox = interfaces::sandbox(world);
        let host_macs = world.links.values().filter_map(Link::host_mac).collect();
        Self { world, vms, claims, host_macs, unaccounted, sandbox }
    }

    /// Plans the guest ports, in the order given.
    pub(super) fn plan(&self, guests: impl Iterator<Item = &'a Link>) -> Vec<Port<'a>> {
        let mut ports: Vec<_> = guests.map(|link| self.port(link)).collect();
        contests::settle(&mut ports);
        ports
    }

    fn port(&self, link: &'a Link) -> Port<'a> {
        let observed = self.world.observed.interfaces.get(&link.ifindex);
        let observed = observed.filter(|held| held.slot.role().is_guest());
        let start = self.claims.partition_point(|(name, ..)| *name < link.name.as_str());
        let length = self.claims[start..].partition_point(|(name, ..)| *name == link.name);
        let mut claims = &self.claims[start..start + length];
        // A VM that does not run speaks through no port, whatever its description says.
        let lives: Vec<_>;
        let is_off =
            |(_, number, _): &(_, usize, _)| self.vms[*number].merged.vm.power == PowerState::Off;
        if claims.iter().any(is_off) && !claims.iter().all(is_off) {
            lives = claims.iter().copied().filter(|claim| !is_off(claim)).collect();
            claims = &lives;
        }
        let mut claimants: Vec<usize> = claims.iter().map(|(_, number, _)| *number).collect();
        claimants.dedup();

        let mut port = Port {
            link,
            instance: observed.map_or(0, |held| held.slot.instance),
            observed,
            claimants,
            plan: PortPlan::Pending,
            decision: PortDecision { status: PortStatus::Pending, vm: None, why: String::new() },
            contested: Vec::new(),
        };
        if let [only] = port.claimants[..] {
            port.decision.vm = Some(self.vms[only].merged.vm.uuid);
        }
        let (plan, why) = self.judge(&port, claims);
        port.set(plan, why);
        port
    }

    /// The plan, before NICs that share a MAC are looked at, and why.
    fn judge(&self, port: &Port<'a>, claims: &[(&str, usize, &'a Nic)]) -> (PortPlan, String) {
        let named = claims.iter().map(|(.., nic)| nic.mac);
        let held = port.observed.into_iter().flat_map(held_macs);
        let vms = port.claimants.iter().map(|number| self.vms[*number].merged.vm.uuid);
        let place = (port.link.ifindex, port.instance);
        if let Some(held) =
            quarantines::on_port(&self.world.observed, place, named.chain(held), vms)
        {
            let what = match held.quarantine.target {
                QuarantineTarget::Port { .. } => "The port".to_owned(),
                QuarantineTarget::Mac(mac) => format!("MAC {mac}"),
                QuarantineTarget::Vm(_) => "The VM".to_owned(),
            };
            let why = format!("{what} is quarantined: {}", bounded(&held.quarantine.note));
            let in_sandbox = port.observed.is_some_and(|observed| observed.slot.is_sandboxed());
            if claims.is_empty() && in_sandbox && held.mode == QuarantineMode::Sandbox {
                // Whose port it is has been forgotten, and its way to the sandbox stays.
                return (PortPlan::Keep, why);
            }
            let by = quarantines::isolator(held.quarantine.cause);
            return (PortPlan::Isolated(self.isolation(by, held.mode, port.link, claims)), why);
        }
        let denied = |number: &&usize| self.vms[**number].status == VmStatus::Denied;
        match port.claimants[..] {
            [] => self.unknown(port),
            [only] => self.of_vm(port, &self.vms[only], claims),
            _ if port.claimants.iter().any(|number| denied(&number)) => (
                PortPlan::Isolated(Isolation::drop(Isolator::Verdict)),
                "Several VMs are said to speak through this port, and one of them is denied."
                    .to_owned(),
            ),
            _ => (
                PortPlan::Pending,
                "Several VMs are said to speak through this port: none is believed.".to_owned(),
            ),
        }
    }

    /// How the port of these NICs is isolated. Without a sandbox, or where it is not clear who speaks,
    /// everything is dropped.
    fn isolation(
        &self,
        by: Isolator,
        mode: QuarantineMode,
        link: &Link,
        claims: &[(&str, usize, &Nic)],
    ) -> Isolation {
        let one_vm = claims.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let rules = self.world.policy.sandbox.as_ref();
        let (QuarantineMode::Sandbox, Some(bridge), Some(rules), true) =
            (mode, self.sandbox, rules, one_vm)
        else {
            return Isolation::drop(by);
        };
        let own = claims.iter().filter(|(.., nic)| !self.host_macs.contains(&nic.mac));
        let mut identities: Vec<_> =
            own.flat_map(|(.., nic)| identity::sandboxed(nic, rules, bridge)).collect();
        identities.sort_by_key(|identity| (identity.mac, identity.vlan));
        identities.dedup();
        if identities.is_empty() {
            return Isolation::drop(by);
        }
        let vms = claims.iter().map(|(_, number, _)| self.vms[*number].merged.vm.as_ref());
        let carried_out = by == Isolator::Operator
            || self.world.mode_on(self.world.bridge_of(link), vms) == Mode::Enforce;
        let bridge = carried_out.then_some(bridge);
        let limited = rules.services.is_some();
        Isolation { by, sandbox: Some(Sandbox { identities, bridge, limited }) }
    }

    /// A port that no source names. What is in force stays, since a source may have forgotten it;
    /// so does an isolation while its reason may be a quarantine on what is not known now.
    fn unknown(&self, port: &Port<'_>) -> (PortPlan, String) {
        match port.observed {
            Some(held) if is_granted(&held.slot) => (
                PortPlan::Keep,
                "No source lists a VM with this port any more; what is in force stays.".to_owned(),
            ),
            Some(held) if held.slot.has(flags::ISOLATED) && self.unaccounted => (
                PortPlan::Keep,
                "No source lists a VM with this port any more, and a quarantine on something that \
                 none lists is in force: the port stays isolated."
                    .to_owned(),
            ),
            _ => (
                PortPlan::Pending,
                "No source lists a VM with this port. If it leads out of the host, name it under \
                 network.uplinks."
                    .to_owned(),
            ),
        }
    }

    fn of_vm(
        &self,
        port: &Port<'a>,
        judged: &Judged<'a>,
        claims: &[(&str, usize, &'a Nic)],
    ) -> (PortPlan, String) {
        let name = quoted(&judged.merged.vm.name);
        let in_force = port.observed.is_some_and(|held| {
            is_granted(&held.slot)
                && claims.iter().any(|(.., nic)| held_macs(held).any(|mac| mac == nic.mac))
        });
        match judged.status {
            VmStatus::Off => (PortPlan::Pending, format!("VM {name} does not run.")),
            VmStatus::Denied if self.world.is_under_maintenance() => {
                let stays = in_force || port.observed.is_some_and(|held| held.slot.has(flags::ISOLATED));
                spared(&name, "there is maintenance", stays)
            }
            VmStatus::Denied if let Some(because) = judged.keeps(self.world) => {
                spared(&name, &because, in_force)
            }
            VmStatus::Denied | VmStatus::Quarantined => {
                let mode = judged.responses.mode();
                let isolation = self.isolation(Isolator::Verdict, mode, port.link, claims);
                (PortPlan::Isolated(isolation), format!("VM {name} fails a requirement."))
            }
            VmStatus::Pending if in_force => (
                PortPlan::Keep,
                format!("There is no new verdict on VM {name} yet; what is in force stays."),
            ),
            VmStatus::Pending => {
                (PortPlan::Pending, format!("There is no verdict on VM {name} yet."))
            }
            VmStatus::Approved if judged.merged.lost && !in_force => (
                PortPlan::Pending,
                format!("The source that lists VM {name} is lost: nothing new is admitted."),
            ),
            VmStatus::Approved if judged.merged.outdated && !in_force => (
                PortPlan::Pending,
                format!("The latest description of VM {name} is refused: nothing new is admitted."),
            ),
            VmStatus::Approved if self.world.registry.lost.is_some() && !in_force => (
                PortPlan::Pending,
                "The templates' manifests cannot be read: nothing new is admitted.".to_owned(),
            ),
            VmStatus::Approved if self.world.quarantines_lost.is_some() && !in_force => (
                PortPlan::Pending,
                "What was quarantined before is not known: nothing new is admitted (`detector finding \
                 list`)."
                    .to_owned(),
            ),
            VmStatus::Approved if self.is_unsettled(claims) => {
                let why = "A source's settings for this NIC cannot be read: what is in force \
                           stays, nothing new is granted (`detector finding list`).";
                let plan = if in_force { PortPlan::Keep } else { PortPlan::Pending };
                (plan, why.to_owned())
            }
            VmStatus::Approved => {
                let identities = self.identities(port, judged.merged, claims);
                if identities.is_empty() {
                    let why =
                        format!("VM {name} is approved, but this NIC can be granted nothing.");
                    (PortPlan::Pending, why)
                } else {
                    (PortPlan::Granted(identities), format!("VM {name} is approved."))
                }
            }
        }
    }

    /// Whether a setting that would narrow what a NIC is granted may exist unread.
    fn is_unsettled(&self, claims: &[(&str, usize, &Nic)]) -> bool {
        let sources = self.world.sources.values();
        let mut unsettled = sources.map(|source| &source.unsettled);
        unsettled.any(|nics| claims.iter().any(|(.., nic)| nics.contains(nic.mac)))
    }

    /// What the NICs behind the port are granted together, sorted by MAC and VLAN.
    fn identities(
        &self,
        port: &Port<'_>,
        merged: &Merged<'_>,
        claims: &[(&str, usize, &Nic)],
    ) -> Vec<Identity> {
        let mut identities: Vec<Identity> = claims
            .iter()
            .filter(|(.., nic)| !merged.withheld.contains(&nic.mac))
            .filter(|(.., nic)| !self.host_macs.contains(&nic.mac))
            .flat_map(|(_, number, nic)| {
                identity::identities(nic, self.vms[*number].default_rule(nic, self.world))
            })
            .collect();
        identities.sort_by_key(|identity| (identity.mac, identity.vlan));
        // A MAC that is listed twice for one VLAN has what both entries grant.
        identities.dedup_by(|twin, kept| {
            let same = (twin.mac, twin.vlan) == (kept.mac, kept.vlan);
            if same {
                let of = |identity: &Identity| {
                    let rule = identity.learns.as_ref().map(|learning| learning.rule);
                    (identity.v4.clone(), identity.v6.clone(), rule)
                };
                let both = identity::intersect(&of(kept), &of(twin));
                (kept.v4, kept.v6) = (both.0, both.1);
                kept.learns = both.2.map(Learning::new);
                kept.dhcp_server &= twin.dhcp_server;
                kept.router &= twin.router;
                kept.vrrp &= twin.vrrp;
            }
            same
        });
        learning::complete(&mut identities, port.link, merged.vm.uuid, self.world);
        identities
    }
}

impl Port<'_> {
    /// What is said of its bridge and its VMs, and nothing of the host.
    pub(super) fn mode(&self, world: &World, vms: &[Judged<'_>]) -> Mode {
        let of = |number: &usize| vms[*number].merged.vm.as_ref();
        world.local(world.bridge_of(self.link), self.claimants.iter().map(of))
    }

    /// Hands over what is in store for it.
    pub(super) fn take(&mut self) -> (PortPlan, PortDecision) {
        let nothing = PortDecision { status: PortStatus::Pending, vm: None, why: String::new() };
        let plan = std::mem::replace(&mut self.plan, PortPlan::Pending);
        (plan, std::mem::replace(&mut self.decision, nothing))
    }

    pub(super) fn set(&mut self, plan: PortPlan, why: String) {
        self.decision.status = match &plan {
            PortPlan::Granted(_) => PortStatus::Granted,
            PortPlan::Pending => PortStatus::Pending,
            PortPlan::Isolated(_) => PortStatus::Isolated,
            PortPlan::Keep if self.observed.is_some_and(|held| is_granted(&held.slot)) => {
                PortStatus::Kept
            }
            PortPlan::Keep => PortStatus::Isolated,
        };
        self.decision.why = why;
        self.plan = plan;
    }
}

/// The plan for the port of a VM that is denied and keeps what it has, and why.
fn spared(name: &str, because: &str, stays: bool) -> (PortPlan, String) {
    let plan = if stays { PortPlan::Keep } else { PortPlan::Pending };
    let why = format!(
        "VM {name} fails a requirement, and {because}: what is in force stays, nothing new is granted."
    );
    (plan, why)
}

/// The MACs that are in force on a granted port.
pub(super) fn held_macs(held: &ObservedInterface) -> impl Iterator<Item = Mac> {
    let inline = is_granted(&held.slot).then_some(held.slot.mac);
    let listed = held.grants.keys().filter(|key| key.address == [0; 16]).map(|key| key.mac);
    let listed = listed.take_while(|_| is_granted(&held.slot));
    inline.into_iter().filter(|mac| *mac != Mac::ZERO).chain(listed)
}

pub(super) fn is_granted(slot: &PortSlot) -> bool {
    slot.role().is_guest() && slot.has(flags::GRANTED) && !slot.has(flags::ISOLATED)
}
