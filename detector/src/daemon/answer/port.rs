use detector_common::port::flags;
use detector_core::{
    decide::PortDecision,
    model::{Link, LinkKind, ObservedInterface, Shield},
    reconcile::{DevicePlan, InterfacePlan},
};

use crate::{
    api::{
        ApiError, ErrorCode,
        kernel::{
            counters, identities, isolation, learned as learned_view, role_name, services,
            sighting, state,
        },
        view::{CountersView, LearnedView, PortState, PortView, SightingView, VmRef, moment},
    },
    daemon::brain::Brain,
    enforcer::Enforcer,
    suggest::did_you_mean,
};

impl<E: Enforcer> Brain<E> {
    /// Every interface in scope or in force.
    pub(super) fn port_views(&self) -> Vec<PortView> {
        let planned = self.decision.desired.interfaces.keys();
        let in_force = self.world.observed.interfaces.keys();
        let all: std::collections::BTreeSet<_> = planned.chain(in_force).copied().collect();
        all.into_iter().map(|ifindex| self.port_view(ifindex)).collect()
    }

    /// A port by name or ifindex, with what it claimed.
    pub(super) fn port_named(&mut self, name: &str) -> Result<PortView, ApiError> {
        let ifindex = self.ifindex_of(name)?;
        self.refresh_seen();
        let counters = self.counters(ifindex);
        Ok(PortView { counters, ..self.port_in_full(ifindex) })
    }

    pub(super) fn port_in_full(&self, ifindex: u32) -> PortView {
        PortView { sightings: self.sightings(ifindex), ..self.port_view(ifindex) }
    }

    /// The ifindex of an interface in scope or in force.
    pub(super) fn ifindex_of(&self, name: &str) -> Result<u32, ApiError> {
        let number = name.parse().ok();
        let ours = |ifindex: &u32| {
            self.decision.desired.interfaces.contains_key(ifindex)
                || self.world.observed.interfaces.contains_key(ifindex)
        };
        let links = self.world.links.values();
        links
            .clone()
            .find(|link| link.name == name)
            .map(|link| link.ifindex)
            .or(number)
            .filter(ours)
            .ok_or_else(|| {
                let close = did_you_mean(name, self.port_names());
                let message =
                    format!("no port {name:?} in scope{close}; detector port list shows all");
                ApiError::new(ErrorCode::NotFound, message)
            })
    }

    pub(super) fn port_names(&self) -> impl Iterator<Item = &str> {
        let ours = |link: &&Link| {
            self.decision.desired.interfaces.contains_key(&link.ifindex)
                || self.world.observed.interfaces.contains_key(&link.ifindex)
        };
        self.world.links.values().filter(ours).map(|link| link.name.as_str())
    }

    fn port_view(&self, ifindex: u32) -> PortView {
        let link = self.world.links.get(&ifindex);
        let observed = self.world.observed.interfaces.get(&ifindex);
        let plan = self.decision.desired.interfaces.get(&ifindex).map(|(_, plan)| plan);
        let decision = self.decision.ports.get(&ifindex);
        let instance = observed.map_or(0, |interface| interface.slot.instance);
        PortView {
            name: link.map_or_else(|| format!("#{ifindex}"), |link| link.name.clone()),
            ifindex,
            instance,
            role: role(plan, observed).to_owned(),
            bridge: self.link_name(link.and_then(|link| link.master)),
            device: self.link_name(
                link.filter(|link| link.kind.is_shared_macvtap()).and_then(|link| link.lower),
            ),
            status: port_state(observed, decision),
            isolation: observed.and_then(|interface| isolation(&interface.slot)),
            passage: observed.is_some_and(|interface| interface.passage.is_some()),
            services: observed.and_then(|one| services(&one.slot, &self.world.observed.services)),
            shield: observed.is_some_and(|interface| interface.shield == Shield::On),
            why: decision.map(|decision| decision.why.clone()).or_else(|| of_place(plan?, link?)),
            since: self.since.port(ifindex, instance).map(moment),
            vm: decision.and_then(|decision| decision.vm).map(|uuid| VmRef {
                uuid,
                name: self.vm(uuid).map_or_else(|| uuid.to_string(), |(_, vm)| vm.name.clone()),
            }),
            identities: observed.map_or_else(Vec::new, identities),
            counters: None,
            learned: self.learned(ifindex, instance),
            observed: observed.is_some_and(|interface| interface.slot.has(flags::OBSERVED)),
            sightings: Vec::new(),
        }
    }

    /// What the port has learned, as far as it has been read.
    fn learned(&self, ifindex: u32, instance: u32) -> Vec<LearnedView> {
        let learned = self.world.learned.get(&ifindex).into_iter().flatten();
        learned.filter(|one| one.instance == instance).map(learned_view).collect()
    }

    fn link_name(&self, ifindex: Option<u32>) -> Option<String> {
        Some(self.world.links.get(&ifindex?)?.name.clone())
    }

    /// The claims without a grant, the latest first.
    fn sightings(&self, ifindex: u32) -> Vec<SightingView> {
        let seen = self.world.seen.get(&ifindex).into_iter().flatten();
        let mut views: Vec<_> = seen.map(sighting).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.last));
        views
    }

    /// Reads from the kernel what ports have claimed, and the frames of each.
    pub(super) fn refresh_seen(&mut self) {
        match self.enforcer.seen() {
            Ok(seen) => self.world.seen = seen,
            Err(error) => tracing::warn!(%error, "cannot read what ports have claimed"),
        }
        self.read_learned();
    }

    fn counters(&mut self, ifindex: u32) -> Option<CountersView> {
        self.enforcer.counts(ifindex).ok()?.map(counters)
    }

    pub(super) fn add_counters(&mut self, ports: &mut [PortView]) {
        for port in ports {
            port.counters = self.counters(port.ifindex);
        }
    }
}

fn role(plan: Option<&InterfacePlan>, observed: Option<&ObservedInterface>) -> &'static str {
    match plan {
        Some(InterfacePlan::Guest(_)) => "guest",
        Some(InterfacePlan::Uplink) => "uplink",
        Some(InterfacePlan::Bridge) => "bridge",
        Some(InterfacePlan::Trusted) => "trusted",
        Some(InterfacePlan::Sandbox) => "sandbox",
        Some(InterfacePlan::Device(_)) => "device",
        None => observed.map_or("guest", |interface| role_name(&interface.slot)),
    }
}

/// What becomes of frames at an interface that is no guest's, where its role does not say it.
fn of_place(plan: &InterfacePlan, link: &Link) -> Option<String> {
    let why = match plan {
        InterfacePlan::Device(DevicePlan { senders: None, .. }) => {
            "Macvtaps of guests are on it: what comes in under their MACs is dropped."
        }
        InterfacePlan::Device(DevicePlan { senders: Some(_), .. }) => {
            "Macvtaps of guests are on it: what comes in under their MACs is dropped, and only known \
             senders speak out of it (network.closed_devices)."
        }
        InterfacePlan::Bridge if link.kind == LinkKind::OpenVSwitch => {
            "By it the host speaks in Open vSwitch: it takes only what a guard has vetted."
        }
        _ => return None,
    };
    Some(why.to_owned())
}

/// What is in force counts; the decision only tells `kept` from `granted`.
fn port_state(observed: Option<&ObservedInterface>, decision: Option<&PortDecision>) -> PortState {
    let Some(observed) = observed else { return PortState::Unguarded };
    match (state(&observed.slot), decision) {
        (PortState::Granted, Some(decision)) => match PortState::from(decision.status) {
            PortState::Kept => PortState::Kept,
            _ => PortState::Granted,
        },
        (in_force, _) => in_force,
    }
}
