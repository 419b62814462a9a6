//! Carries out actions on the kernel.

mod execute;
mod forwarding;
mod interfaces;
mod mode;
mod owners;
mod passages;
mod resync;
mod spare;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod verify;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    path::PathBuf,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use detector_common::{
    counters::Sighting,
    learned::OwnerKey,
    maps::{self, programs},
    port::{PortSlot, Role, flags},
    settings::Settings,
    stamp::Stamp,
};
use detector_core::{
    model::{Learned, Observed, Seen, Ticks},
    reconcile::Action,
};

pub(super) use mode::observed as observed_mode;
use spare::Spare;
use verify::Watch;

use super::{
    BpfError, Hook, JiffyClock, Method, Pins, Signs, links::Links, load::Programs, maps::Maps,
    probe, remains, sys,
};
use crate::{
    enforcer::{Counts, EnforceError, Enforcer, Recheck, Sign, serve::Ground},
    net::{Forwarding, LinkChanges, Passages},
};

/// What a [`KernelEnforcer`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Root of the pins; the schema version is added to it.
    pub pins: PathBuf,
    pub stamp: Stamp,
    /// How to attach programs; `None` takes TCX where the kernel has it, else clsact.
    pub method: Option<Method>,
}

/// The [`Enforcer`] of this host, in the network namespace of the thread that opens it and calls it.
///
/// What it has put in force stays in force when it is dropped or its process dies; the next one
/// takes over from there. It keeps a mirror of what the kernel holds. Before the mirror is used, the
/// interfaces that something has happened to are looked at again, so that observing costs one system
/// call and is never about an interface that is no more. [`Self::resync`] reads everything anew.
pub struct KernelEnforcer {
    /// Before the pins, so that nobody loads over them any more when they are let go.
    spare: Spare,
    pins: Pins,
    method: Method,
    programs: Programs,
    maps: Maps,
    forwarding: Forwarding,
    passages: Passages,
    changes: LinkChanges,
    clock: JiffyClock,
    settings: Settings,
    mirror: Observed,
    /// What the programs are loaded with.
    stamp: Stamp,
    links: Links,
    watch: Watch,
    fresh: bool,
    /// Other map schemas that programs are in force of, behind ours.
    predecessors: BTreeSet<u32>,
}

impl KernelEnforcer {
    /// Takes the pins over: loads the programs, replaces those that run by them without a gap, and
    /// frees what belonged to interfaces that are gone.
    ///
    /// # Errors
    ///
    /// When this kernel or process cannot do it, another process holds the pins, or what is pinned
    /// cannot be taken over. What is in force has not been touched then.
    pub fn open(options: &Options) -> Result<Self, BpfError> {
        options.stamp.check().map_err(|error| BpfError::Refused(format!("stamp: {error}")))?;
        let features = probe()?;
        let best = if features.tcx { Method::Tcx } else { Method::Clsact };
        raise_descriptor_limit();
        let method = options.method.unwrap_or(best);
        let pins = Pins::claim(&options.pins)?;
        let predecessors = remains::predecessors(&pins)?;
        let fresh = !pins.paths().map(maps::QUARANTINE).exists();
        let programs = Programs::load(&pins, options.stamp, !predecessors.is_empty())?;
        let maps = Maps::open(pins.paths())?;
        let mut enforcer = Self {
            method,
            predecessors,
            settings: maps.settings()?,
            forwarding: Forwarding::open()?,
            passages: Passages::open()?,
            changes: LinkChanges::subscribe()?,
            clock: JiffyClock::new()?,
            mirror: Observed::default(),
            stamp: options.stamp,
            links: Links::default(),
            watch: Watch::new(pins.paths())?,
            spare: Spare::none(),
            fresh,
            pins,
            programs,
            maps,
        };
        enforcer.take_settings()?;
        enforcer.resync()?;
        enforcer.replace_programs()?;
        Ok(enforcer)
    }

    /// Takes the programs of other map schemas off. Ours have left the stamp for them until now; from here
    /// on they take it off themselves.
    fn succeed(&mut self) -> Result<(), BpfError> {
        let programs = Programs::load(&self.pins, self.stamp, false)?;
        remains::end(&self.pins, &self.predecessors)?;
        self.programs = programs;
        self.spare = Spare::none();
        self.replace_programs()?;
        self.predecessors.clear();
        Ok(())
    }

    /// How programs are attached here.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The ring buffer of the kernel programs' events, for [`Events`](crate::bpf::Events) in any process.
    pub fn events(&self) -> Result<OwnedFd, BpfError> {
        let path = self.pins.paths().map(maps::EVENTS);
        sys::open_pin(&path)
            .map_err(BpfError::failed(format!("open the pinned map {}", path.display())))
    }

    /// Signs that somebody may have touched what is in force. Needs a Tokio runtime.
    pub fn signs(&self) -> Result<Signs, BpfError> {
        Signs::open(self.pins.paths())
    }

    /// Hands what the kernel programs log on to this process's own log, for as long as it is polled.
    /// Needs a Tokio runtime; can be had once.
    pub fn follow_logs(
        &mut self,
    ) -> Result<impl Future<Output = ()> + Send + 'static + use<>, BpfError> {
        self.programs.follow_logs()
    }

    /// Whether nothing was pinned here before: the host was restarted, or the maps' schema has changed.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Names the map of quarantines among all that have been made since the host was started.
    pub fn quarantine_map(&self) -> Result<u32, BpfError> {
        self.pins.paths().quarantine_map()
    }

    /// Converts the time stamps of events.
    pub fn clock(&self) -> JiffyClock {
        self.clock
    }

    /// The claims without a grant of each port instance, the latest first, by ifindex.
    pub fn seen(&self) -> Result<BTreeMap<u32, Vec<Seen>>, BpfError> {
        let slots = self.mirror.interfaces.values().map(|interface| &interface.slot);
        slots
            .filter(|slot| {
                let role = slot.role();
                role.is_guest() || matches!(role, Role::Uplink | Role::Device | Role::ClosedDevice)
            })
            .map(|slot| Ok((slot.ifindex, seen(self.clock, self.maps.sightings(slot)?))))
            .collect()
    }

    /// The frames of an interface; `None` when it has no slot.
    pub fn counts(&self, ifindex: u32) -> Result<Option<Counts>, BpfError> {
        let interface = self.mirror.interfaces.get(&ifindex);
        interface.map(|interface| self.maps.counts(&interface.slot)).transpose()
    }
}

impl Enforcer for KernelEnforcer {
    fn observe(&mut self) -> Result<Observed, EnforceError> {
        self.absorb_changes()?;
        self.recheck_mode();
        Ok(self.mirror.clone())
    }

    fn execute(&mut self, action: &Action) -> Result<(), EnforceError> {
        self.absorb_changes()?;
        Ok(self.carry_out(action)?)
    }

    fn ticks_after(&mut self, seconds: u64) -> Result<Ticks, EnforceError> {
        Ok(self.clock.ticks_after(seconds))
    }

    fn recheck(&mut self) -> Result<Recheck, EnforceError> {
        Ok(Self::look_around(self)?)
    }

    fn recheck_for(&mut self, signs: &BTreeSet<Sign>) -> Result<Recheck, EnforceError> {
        Ok(Self::look_for(self, signs)?)
    }

    fn resync(&mut self) -> Result<(), EnforceError> {
        Ok(Self::resync(self)?)
    }

    fn seen(&mut self) -> Result<BTreeMap<u32, Vec<Seen>>, EnforceError> {
        Ok(Self::seen(self)?)
    }

    fn learned(&mut self) -> Result<BTreeMap<u32, Vec<Learned>>, EnforceError> {
        let slots = self.mirror.interfaces.values().map(|interface| &interface.slot);
        let learns = slots.filter(|slot| slot.has(flags::LEARNS));
        let learned = learns.map(|slot| Ok((slot.ifindex, self.maps.learned(slot, self.clock)?)));
        Ok(learned.collect::<Result<_, BpfError>>()?)
    }

    fn learned_by(&mut self, ifindex: u32) -> Result<Vec<Learned>, EnforceError> {
        let slot = self.mirror.interfaces.get(&ifindex).map(|interface| &interface.slot);
        let learns = slot.filter(|slot| slot.has(flags::LEARNS));
        let learned = learns.map(|slot| self.maps.learned(slot, self.clock)).transpose()?;
        Ok(learned.unwrap_or_default())
    }

    fn owner_of(&mut self, address: OwnerKey) -> Result<Option<u32>, EnforceError> {
        Ok(self.maps.learner(address, self.clock)?)
    }

    fn is_router(&mut self, address: OwnerKey) -> Result<bool, EnforceError> {
        Ok(self.maps.is_router(address, self.clock)?)
    }

    fn counts(&mut self, ifindex: u32) -> Result<Option<Counts>, EnforceError> {
        Ok(Self::counts(self, ifindex)?)
    }

    fn has_predecessors(&self) -> bool {
        !self.predecessors.is_empty()
    }

    fn end_predecessors(&mut self) -> Result<(), EnforceError> {
        Ok(self.succeed()?)
    }

    fn refused(&mut self, ifindex: u32) -> Result<Option<u64>, EnforceError> {
        let interface = self.mirror.interfaces.get(&ifindex);
        Ok(interface.map(|interface| self.maps.refused(interface.slot.id)).transpose()?)
    }
}

impl Ground for KernelEnforcer {
    fn held(&self) -> &Observed {
        &self.mirror
    }
}

/// A link is held open for each hook of each interface, and the usual limit is 1,024 descriptors.
/// Where it cannot be raised, holding a link may fail later, and says so.
fn raise_descriptor_limit() {
    const WANTED: u64 = 4096;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < WANTED
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, WANTED.min(hard), hard);
    }
}

/// Sightings as the core knows them.
pub(super) fn seen(clock: JiffyClock, sightings: Vec<Sighting>) -> Vec<Seen> {
    let seen = |sighting: Sighting| Seen {
        instance: sighting.instance,
        claim: sighting.claim,
        first: clock.timestamp(sighting.first),
        last: clock.timestamp(sighting.last),
        count: sighting.count,
    };
    sightings.into_iter().map(seen).collect()
}

/// The programs that run on an interface of this slot; none on a trusted one.
pub(super) const fn programs_of(slot: &PortSlot) -> &'static [(Hook, &'static str)] {
    use Hook::{Egress, Ingress};
    use programs::*;
    match slot.role() {
        Role::Guest => &[(Ingress, PORT_INGRESS), (Egress, PORT_EGRESS)],
        Role::GuestOnDevice => &[(Ingress, DEVICE_PORT_INGRESS), (Egress, PORT_INGRESS)],
        Role::Uplink => &[(Ingress, UPLINK_INGRESS), (Egress, UPLINK_EGRESS)],
        Role::Bridge => &[(Ingress, BRIDGE_INGRESS), (Egress, BRIDGE_EGRESS)],
        Role::Sandbox => &[(Ingress, SANDBOX_INGRESS), (Egress, SANDBOX_EGRESS)],
        Role::Device => &[(Ingress, DEVICE_INGRESS)],
        Role::ClosedDevice => &[(Ingress, DEVICE_INGRESS), (Egress, DEVICE_EGRESS)],
        Role::Trusted | Role::Vacant => &[],
    }
}
