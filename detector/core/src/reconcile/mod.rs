//! From what should be and what is to what has to be done: pure.

mod action;
mod compile;
mod desired;
mod guest;
mod services;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use detector_common::{
    addr::Mac,
    port::{Role, flags},
    settings::Mode,
};

pub use action::{Action, GrantEntry, ProtectedEntry, SeedEntry, ServiceEntry, SlotEntry};
pub use compile::compile;
pub(crate) use compile::mapped;
pub use desired::{
    AddressSet, Desired, DevicePlan, Identity, InterfacePlan, Isolation, Isolator, Learning,
    LearningRule, Lending, PortPlan, Sandbox, Seed,
};
pub use services::services;

use crate::model::{Observed, ObservedInterface};

/// The actions that lead from `observed` to `desired`, in the order to carry them out.
///
/// Carrying them all out and observing again leads to no actions, but for the guest ports that were
/// attached: what is written for a port names its instance, which attaching gives it. The round
/// after writes it, and the round after that has nothing to do.
///
/// The order, and what it is for:
///
/// 1. **Observe mode**, of the host or of an interface, when that is the way to go: whoever turns enforcing off wants the network
///    back before anything else. What is stamped from now on in Open vSwitch, before anything asks for it.
/// 2. **Quarantines, then addresses that no port may learn (those that go first, which makes room) and
///    what the sandbox offers, then isolated ports, then muted ones**: what takes something away needs nothing from any other
///    step, takes microseconds, and frees MACs for the ports that get them. The record comes before
///    the slot, so that a crash in between leaves the port to be isolated.
/// 3. **Releases**, which make room in maps and slots for what is attached next.
/// 4. **Attachments**: sources that are vetted (trusted interfaces, uplinks) before the gates that
///    ask for the vetting, so that the host's own traffic is not cut; then the guards, which leave
///    their ports mute; then what asks for a stamp from now on.
/// 5. **Grants**: what ports are taught, so that nobody comes before who has it already; then of each
///    port the entries, then the slot that makes them count, then the removal of what it no longer
///    needs. After all of them what defends the MACs,
///    forwarding entries and entries of owners, those that go before those that come, since a MAC
///    may move from one port to another.
/// 6. **Shields and passages to the sandbox**: the port has been isolated before, a shield only spares
///    the host work, and without a passage everything is dropped. Then what the sandbox offers no longer.
/// 7. **Lifted quarantines**, so that a crash before leaves the record.
/// 8. **Enforce mode**, of an interface and then of the host, when that is the way to go: nothing is dropped for the lack of a grant that
///    was about to be made.
pub fn reconcile(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let mut steps = Steps::default();
    for (ifindex, held) in &observed.interfaces {
        if !desired.interfaces.contains_key(ifindex) {
            release(*ifindex, held, &mut steps);
        }
    }
    let stamped = is_host_stamped(desired, observed);
    for (ifindex, (name, plan)) in &desired.interfaces {
        let held = match observed.interfaces.get(ifindex) {
            Some(held) if fits(held.slot.role(), plan) => held,
            other => {
                if let Some(held) = other
                    && !turns(held.slot.role(), plan)
                {
                    release(*ifindex, held, &mut steps);
                }
                attach(*ifindex, name, plan, &mut steps);
                continue;
            }
        };
        let observed = desired.observed.contains(ifindex);
        if held.slot.has(flags::OBSERVED) != observed {
            let instance = held.slot.instance;
            let steps = if observed { &mut steps.loosen } else { &mut steps.tighten };
            steps.push(Action::SetObserved { ifindex: *ifindex, instance, observed });
        }
        switch(*ifindex, plan, desired.switched.contains(ifindex), held, stamped, &mut steps);
        if let InterfacePlan::Guest(plan) = plan {
            let place = guest::Place {
                in_transit: desired.in_transit.contains(ifindex),
                has_entries: held.slot.role() == Role::Guest && !desired.switched.contains(ifindex),
                reflected: desired.reflected.contains(ifindex),
            };
            guest::converge(*ifindex, plan, place, held, &mut steps);
            let wanted = desired.shields.contains(ifindex);
            steps.aside.extend(guest::shield(*ifindex, wanted, held));
            guest::passage(*ifindex, plan, held, &mut steps.aside);
        }
        if let InterfacePlan::Device(plan) = plan {
            let (slot, entries) = device(plan);
            steps.grant.extend(guest::changes(*ifindex, &slot, &entries, held));
        }
    }

    let make = |name: &String| Action::MakeSandbox { name: name.clone() };
    steps.aside.extend(desired.make_sandbox.as_ref().map(make));

    let pinned = observed.mode.as_ref().map(|mode| &mode.record);
    let mode = desired.mode.as_ref().filter(|mode| pinned != Some(*mode));
    let (enforce, observe) = match mode {
        Some(record) if record.mode == Mode::Enforce => (mode, None),
        _ => (None, mode),
    };
    let missing = desired
        .quarantines
        .iter()
        .filter(|(target, quarantine)| observed.quarantines.get(target) != Some(quarantine));
    let lifted =
        observed.quarantines.keys().filter(|target| !desired.quarantines.contains_key(target));

    let mut actions: Vec<Action> = Vec::new();
    actions.extend(observe.cloned().map(Action::SetMode));
    actions.append(&mut steps.loosen);
    let mut tighten = std::mem::take(&mut steps.tighten);
    actions.extend(missing.map(|(_, quarantine)| Action::PutQuarantine(quarantine.clone())));
    let protect = difference(&desired.protected, &observed.protected);
    let unprotect = difference(&observed.protected, &desired.protected);
    let offer = difference(&desired.services, &observed.services);
    let withdraw = difference(&observed.services, &desired.services);
    // Those that go make room for those that come.
    actions.extend(unprotect.map(|entries| Action::Unprotect { entries }));
    actions.extend(protect.map(|entries| Action::Protect { entries }));
    actions.extend(offer.map(|entries| Action::OfferServices { entries }));
    actions.extend(steps.into_actions());
    actions.extend(withdraw.map(|entries| Action::WithdrawServices { entries }));
    actions.extend(lifted.map(|target| Action::LiftQuarantine(*target)));
    actions.append(&mut tighten);
    actions.extend(enforce.cloned().map(Action::SetMode));
    actions
}

/// Whether all that the host sends into datapaths of Open vSwitch is stamped, or will be before anything
/// asks for it: each way in is known by its gate.
fn is_host_stamped(desired: &Desired, observed: &Observed) -> bool {
    let mut ways_in = desired.interfaces.iter().filter(|(ifindex, (_, plan))| {
        *plan == InterfacePlan::Bridge && desired.switched.contains(ifindex)
    });
    ways_in.all(|(ifindex, _)| {
        let held = observed.interfaces.get(ifindex);
        held.is_some_and(|held| held.slot.role() == Role::Bridge)
    })
}

/// What is in a datapath of Open vSwitch, and what is not. What the host sends is stamped before an uplink
/// there asks for it, and where it cannot be no uplink does: the host keeps its network.
fn switch(
    ifindex: u32,
    plan: &InterfacePlan,
    switched: bool,
    held: &ObservedInterface,
    is_host_stamped: bool,
    steps: &mut Steps,
) {
    let wanted = switched && (*plan != InterfacePlan::Uplink || is_host_stamped);
    if held.slot.has(flags::SWITCHED) == wanted {
        return;
    }
    let lets_more_go = (*plan == InterfacePlan::Bridge) == wanted;
    let steps = if lets_more_go { &mut steps.loosen } else { &mut steps.ask };
    steps.push(Action::SetSwitched { ifindex, instance: held.slot.instance, switched: wanted });
}

/// What the one has and the other has not, if there is anything.
fn difference<K: Ord + Copy, E: From<K>>(one: &BTreeSet<K>, other: &BTreeSet<K>) -> Option<Vec<E>> {
    let entries: Vec<_> = one.difference(other).map(|key| (*key).into()).collect();
    (!entries.is_empty()).then_some(entries)
}

/// Steps on interfaces, by the phase in which they are carried out.
#[derive(Default)]
struct Steps {
    isolate: Vec<Action>,
    mute: Vec<Action>,
    release: Vec<Action>,
    trust: Vec<Action>,
    uplinks: Vec<Action>,
    bridges: Vec<Action>,
    guards: Vec<Action>,
    /// Places that from now on ask for the stamp where they did not.
    ask: Vec<Action>,
    teach: Vec<Action>,
    grant: Vec<Action>,
    unpin: Vec<Action>,
    pin: Vec<Action>,
    /// What nothing else depends on.
    aside: Vec<Action>,
    /// Of single interfaces, what turning enforcing off and on is for the host.
    loosen: Vec<Action>,
    tighten: Vec<Action>,
}

impl Steps {
    fn into_actions(self) -> impl Iterator<Item = Action> {
        let Self {
            isolate,
            mute,
            release,
            trust,
            uplinks,
            bridges,
            guards,
            ask,
            teach,
            grant,
            unpin,
            pin,
            aside,
            loosen: _,
            tighten: _,
        } = self;
        [
            isolate, mute, release, trust, uplinks, bridges, guards, ask, teach, grant, unpin, pin,
            aside,
        ]
        .into_iter()
        .flatten()
    }
}

/// Whether an interface is to the kernel programs what it should be. Which way round a guard is
/// attached is for whoever attaches it to know.
fn fits(role: Role, plan: &InterfacePlan) -> bool {
    match plan {
        InterfacePlan::Guest(_) => role.is_guest(),
        InterfacePlan::Uplink => role == Role::Uplink,
        InterfacePlan::Bridge => role == Role::Bridge,
        InterfacePlan::Trusted => role == Role::Trusted,
        InterfacePlan::Sandbox => role == Role::Sandbox,
        InterfacePlan::Device(DevicePlan { senders: None, .. }) => role == Role::Device,
        InterfacePlan::Device(DevicePlan { senders: Some(_), .. }) => role == Role::ClosedDevice,
    }
}

/// Whether an interface becomes what it should be without being released: what the host routes from it goes
/// on all the while.
fn turns(role: Role, plan: &InterfacePlan) -> bool {
    role.is_aside() && matches!(plan, InterfacePlan::Trusted | InterfacePlan::Device(_))
}

/// The slot and the entries of a device that macvtaps are on. The entries come before the slot that has
/// others dropped.
fn device(plan: &DevicePlan) -> (SlotEntry, Vec<GrantEntry>) {
    let mut slot = SlotEntry::default();
    slot.flags |= if plan.trusted { flags::TRUSTED } else { 0 };
    slot.flags |= if plan.senders.is_some() { flags::MORE_GRANTS } else { 0 };
    let senders = plan.senders.iter().flatten();
    let entry = |sender: &Mac| GrantEntry {
        mac: sender.0,
        vlan: 0,
        address: [0; 16],
        prefix: None,
        flags: 0,
    };
    (slot, senders.map(entry).collect())
}

fn release(ifindex: u32, held: &ObservedInterface, steps: &mut Steps) {
    let unpin = |(mac, vlan): &_| Action::UnpinForwarding { ifindex, mac: *mac, vlan: *vlan };
    steps.release.extend(held.forwarding.iter().map(unpin));
    steps.release.push(Action::Release { ifindex });
}

fn attach(ifindex: u32, name: &str, plan: &InterfacePlan, steps: &mut Steps) {
    let name = name.to_owned();
    match plan {
        InterfacePlan::Guest(_) => steps.guards.push(Action::AttachGuard { ifindex, name }),
        InterfacePlan::Uplink => steps.uplinks.push(Action::AttachUplink { ifindex, name }),
        InterfacePlan::Bridge => steps.bridges.push(Action::AttachBridge { ifindex, name }),
        InterfacePlan::Trusted => steps.trust.push(Action::Trust { ifindex, name }),
        InterfacePlan::Device(DevicePlan { trusted, senders }) => {
            let (trusted, closed) = (*trusted, senders.is_some());
            steps.trust.push(Action::AttachDevice { ifindex, name, trusted, closed });
        }
        InterfacePlan::Sandbox => steps.bridges.push(Action::AttachSandbox { ifindex, name }),
    }
}
