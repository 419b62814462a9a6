//! The pins without a daemon: what is in force, and quarantines in an emergency.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use detector_common::{
    port::{Grant, GrantKey, PortSlot, PrefixKey, Role, flags},
    quarantine::{Cause, QuarantineMode},
    services::Service,
    settings::Settings,
};
use detector_core::model::{
    Deed, Learned, ModeRecord, ModeRequest, ObservedMode, Quarantine, QuarantineTarget, Seen,
};

use super::{
    BpfError, JiffyClock, PinPaths, Pins,
    attach::{self, Standing},
    enforcer::{observed_mode, programs_of, seen},
    holder,
    maps::Maps,
    object,
    pins::refuse_other_versions,
    schema, shield,
};
use crate::enforcer::Counts;

/// Reads what is pinned, whether a daemon runs or not.
pub struct Inspector {
    paths: PinPaths,
    maps: Maps,
    clock: JiffyClock,
}

/// What is in force at a moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub settings: Settings,
    /// By ifindex.
    pub ports: Vec<PortView>,
    /// By target.
    pub quarantines: Vec<Quarantine>,
    /// What ports in the sandbox may reach there, where that is limited.
    pub services: BTreeSet<Service>,
    /// The process that holds the pins: the daemon, when one runs.
    pub holder: Option<u32>,
}

/// An interface with a slot.
#[derive(Clone, Debug)]
pub struct PortView {
    pub slot: PortSlot,
    /// Entries of `GRANTS` for this instance.
    pub grants: BTreeMap<GrantKey, Grant>,
    /// Entries of `PREFIXES` for this instance, with the length of the address prefix.
    pub prefixes: BTreeMap<(PrefixKey, u8), Grant>,
    /// Its name now, escaped where it is no plain text; `None` when it is not in this network
    /// namespace.
    pub name: Option<String>,
    /// Whether all its programs run on it. Nothing runs on a trusted interface.
    pub guarded: bool,
    /// Whether a shield is on.
    pub shield: bool,
    /// Whether there is a way to the sandbox.
    pub passage: bool,
    pub counts: Counts,
    /// Claims without a grant of this instance, the latest first.
    pub sightings: Vec<Seen>,
    /// Addresses that it has learned and that have not expired.
    pub learned: Vec<Learned>,
}

/// What a quarantine without a daemon has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The id of the map that the record is in.
    pub map: u32,
    /// Whether the record is new (or was there, when it was lifted).
    pub record: bool,
    /// Interfaces whose slot was changed: those that are cut off by it, or that speak again. A
    /// quarantine on a VM changes none: only the daemon knows its ports.
    pub ports: Vec<u32>,
}

impl Inspector {
    /// # Errors
    ///
    /// When nothing is pinned below `root`, or it is of another schema version.
    pub fn open(root: &Path) -> Result<Self, BpfError> {
        let paths = PinPaths::new(root);
        paths.expect_maps()?;
        schema::check(&paths, &schema::expected(object::bytes())?)?;
        Ok(Self { maps: Maps::open(&paths)?, clock: JiffyClock::new()?, paths })
    }

    /// Whether verdicts are carried out; `None` when nothing is pinned, or no mode has been set yet.
    ///
    /// # Errors
    ///
    /// When what is pinned cannot be read, such as that of another schema version.
    pub fn enforces(root: &Path) -> Result<Option<bool>, BpfError> {
        match Self::open(root) {
            Ok(inspector) => {
                let settings = inspector.maps.settings()?;
                let enforces = settings.enforces(|| inspector.clock.ticks().0);
                Ok((settings.has_mode != 0).then_some(enforces))
            }
            Err(BpfError::Nothing(_)) if root.exists() => {
                refuse_other_versions(&PinPaths::new(root)).map(|()| None)
            }
            Err(BpfError::Nothing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn snapshot(&self) -> Result<Snapshot, BpfError> {
        let mut slots = self.maps.slots()?;
        slots.sort_unstable_by_key(|slot| slot.ifindex);
        let mut ports =
            slots.into_iter().map(|slot| self.view(slot)).collect::<Result<Vec<_>, _>>()?;
        self.add_grants(&mut ports)?;
        Ok(Snapshot {
            settings: self.maps.settings()?,
            ports,
            quarantines: self.quarantines()?,
            services: self.maps.services()?,
            holder: holder(self.paths.root()),
        })
    }

    /// What bridges, uplinks and closed devices are to the programs that run on them, by ifindex: those whose
    /// programs all run.
    pub fn gates(&self) -> Result<BTreeMap<u32, Role>, BpfError> {
        let mut gates = BTreeMap::new();
        for slot in self.maps.slots()? {
            let is_gate = matches!(slot.role(), Role::Bridge | Role::Uplink | Role::ClosedDevice);
            let is_there = || attach::interface_name(slot.ifindex).is_ok();
            if is_gate && is_there() && self.is_guarded(&slot)? {
                gates.insert(slot.ifindex, slot.role());
            }
        }
        Ok(gates)
    }

    /// Whether all programs run that belong on an interface in this role.
    fn is_guarded(&self, slot: &PortSlot) -> Result<bool, BpfError> {
        for &(hook, program) in programs_of(slot) {
            if !attach::tcx_alive(&self.paths, slot.ifindex, hook)?
                && attach::clsact_standing(slot.ifindex, hook, program)? == Standing::Absent
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The quarantines on record, by target. Entries of a scope that is unknown are left out.
    pub fn quarantines(&self) -> Result<Vec<Quarantine>, BpfError> {
        let mut quarantines: Vec<_> = self
            .maps
            .quarantines()?
            .into_iter()
            .filter_map(|(key, record)| {
                let target = QuarantineTarget::try_from(key).ok()?;
                Some(Quarantine::from_record(target, &record))
            })
            .collect();
        quarantines.sort_unstable_by_key(|quarantine| quarantine.target);
        Ok(quarantines)
    }

    fn add_grants(&self, ports: &mut [PortView]) -> Result<(), BpfError> {
        let of = |ifindex: u32, instance: u32| {
            let place = ports.binary_search_by_key(&ifindex, |port| port.slot.ifindex).ok()?;
            (ports[place].slot.instance == instance).then_some(place)
        };
        let grants: Vec<_> = self
            .maps
            .grants()?
            .into_iter()
            .filter_map(|(key, grant)| Some((of(key.ifindex, key.instance)?, key, grant)))
            .collect();
        let prefixes: Vec<_> = self
            .maps
            .prefixes()?
            .into_iter()
            .filter_map(|(prefix, grant)| {
                let [ifindex, instance] =
                    [prefix.0.ifindex, prefix.0.instance].map(u32::from_ne_bytes);
                Some((of(ifindex, instance)?, prefix, grant))
            })
            .collect();
        for (place, key, grant) in grants {
            ports[place].grants.insert(key, grant);
        }
        for (place, prefix, grant) in prefixes {
            ports[place].prefixes.insert(prefix, grant);
        }
        Ok(())
    }

    fn view(&self, slot: PortSlot) -> Result<PortView, BpfError> {
        let name = attach::interface_name(slot.ifindex).ok();
        Ok(PortView {
            guarded: name.is_some() && self.is_guarded(&slot)?,
            name: name.map(|name| name.to_bytes().escape_ascii().to_string()),
            passage: self
                .maps
                .passage(slot.ifindex)?
                .is_some_and(|passage| passage.instance == slot.instance),
            shield: shield::alive(&self.paths, slot.ifindex)?,
            counts: self.maps.counts(&slot)?,
            sightings: seen(self.clock, self.maps.sightings(&slot)?),
            learned: self.maps.learned(&slot, self.clock)?,
            grants: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            slot,
        })
    }
}

impl Inspector {
    /// The mode as it is pinned; `None` where none has been set yet.
    pub fn mode(&self) -> Result<Option<ObservedMode>, BpfError> {
        Ok(mode_in(&self.maps.settings()?, self.clock))
    }

    /// Changes the mode on the pins themselves, when no daemon runs.
    ///
    /// # Errors
    ///
    /// [`BpfError::Locked`] when a daemon runs; [`BpfError::Refused`] where the request does not fit the mode.
    pub fn change_mode(
        root: &Path,
        change: ModeRequest,
        deed: Deed,
    ) -> Result<ObservedMode, BpfError> {
        let mut pinned = Pinned::claim(root)?;
        let clock = JiffyClock::new()?;
        let settings = pinned.maps.settings()?;
        let from = mode_in(&settings, clock)
            .ok_or_else(|| BpfError::Refused("no daemon has set a mode yet".to_owned()))?;
        let record = change
            .apply(&from, deed, clock.ticks_after(change.seconds()))
            .map_err(|refusal| BpfError::Refused(refusal.0))?;
        pinned.maps.write_settings(record.write(settings))?;
        Ok(observed_mode(record, clock))
    }

    /// Records a quarantine on the pins themselves and isolates its ports, when no daemon runs. A
    /// VM's ports are only known to the daemon: they are isolated when it runs again.
    ///
    /// # Errors
    ///
    /// [`BpfError::Locked`] when a daemon runs; when a port's instance is not in force.
    pub fn put_quarantine(root: &Path, quarantine: &Quarantine) -> Result<Applied, BpfError> {
        let mut pinned = Pinned::claim(root)?;
        let covered = pinned.covered(quarantine.target)?;
        if let QuarantineTarget::Port { ifindex, instance } = quarantine.target
            && covered.is_empty()
        {
            return Err(BpfError::Refused(format!(
                "interface {ifindex} has no instance {instance} in force: `detector port list` shows \
                 which there are"
            )));
        }
        let key = quarantine.target.into();
        let record = !pinned.maps.quarantines()?.contains_key(&key);
        pinned.maps.put_quarantine(key, quarantine.record())?;
        let isolated = match quarantine.cause {
            Cause::Verdict => flags::ISOLATED,
            Cause::Operator => flags::ISOLATED | flags::ISOLATED_BY_OPERATOR,
        };
        let ports = pinned.change(covered, |slot| {
            slot.flags |= isolated;
            if quarantine.mode == QuarantineMode::Drop {
                slot.flags &= !(flags::SANDBOXED | flags::LIMITED);
            }
        })?;
        Ok(Applied { map: pinned.map()?, record, ports })
    }

    /// Removes a record on the pins themselves, when no daemon runs. Ports that were cut off in this way
    /// too are what they were before. What the daemon has cut off stays so until it runs again: why it
    /// did so is known to it alone, and what had been granted is gone.
    ///
    /// # Errors
    ///
    /// [`BpfError::Locked`] when a daemon runs; when it is a verdict's, which only the daemon can judge.
    pub fn lift_quarantine(root: &Path, target: QuarantineTarget) -> Result<Applied, BpfError> {
        let mut pinned = Pinned::claim(root)?;
        let key = target.into();
        let mut records = pinned.maps.quarantines()?;
        let record = records.remove(&key);
        if let Some(record) = &record
            && Quarantine::from_record(target, record).cause == Cause::Verdict
        {
            return Err(BpfError::Refused(
                "a verdict has imposed it: whether the requirements are met by now only the daemon can \
                 say. Start it (`detector run`) and release then"
                    .to_owned(),
            ));
        }
        pinned.maps.lift_quarantine(key)?;
        let mut covered = pinned.covered(target)?;
        for other in records.into_keys().filter_map(|key| QuarantineTarget::try_from(key).ok()) {
            let still: BTreeSet<_> =
                pinned.covered(other)?.iter().map(|slot| slot.ifindex).collect();
            covered.retain(|slot| !still.contains(&slot.ifindex));
        }
        let ports = pinned.change(covered, |slot| {
            if slot.has(flags::GRANTED) {
                slot.flags &= !(flags::ISOLATED | flags::ISOLATED_BY_OPERATOR);
            }
        })?;
        Ok(Applied { map: pinned.map()?, record: record.is_some(), ports })
    }
}

fn mode_in(settings: &Settings, clock: JiffyClock) -> Option<ObservedMode> {
    (settings.has_mode != 0).then(|| observed_mode(ModeRecord::read(settings), clock))
}

/// The maps, held against everybody else.
struct Pinned {
    maps: Maps,
    pins: Pins,
}

impl Pinned {
    fn claim(root: &Path) -> Result<Self, BpfError> {
        let pins = Pins::claim_existing(root)?;
        schema::check(pins.paths(), &schema::expected(object::bytes())?)?;
        Ok(Self { maps: Maps::open(pins.paths())?, pins })
    }

    fn map(&self) -> Result<u32, BpfError> {
        self.pins.paths().quarantine_map()
    }

    /// The guest ports that a quarantine is on, as far as the kernel's maps say.
    fn covered(&self, target: QuarantineTarget) -> Result<Vec<PortSlot>, BpfError> {
        let mut slots = self.maps.slots()?;
        slots.retain(|slot| slot.role().is_guest());
        match target {
            QuarantineTarget::Port { ifindex, instance } => {
                slots.retain(|slot| (slot.ifindex, slot.instance) == (ifindex, instance));
            }
            QuarantineTarget::Mac(mac) => {
                let grants = self.maps.grants()?;
                let has = |slot: &PortSlot| {
                    grants.keys().any(|key| {
                        (key.ifindex, key.instance, key.mac) == (slot.ifindex, slot.instance, mac)
                    })
                };
                slots.retain(|slot| slot.mac == mac || has(slot));
            }
            QuarantineTarget::Vm(_) => slots.clear(),
        }
        Ok(slots)
    }

    /// Writes what `change` makes of the slots; returns those that it has changed.
    fn change(
        &mut self,
        slots: Vec<PortSlot>,
        change: impl Fn(&mut PortSlot),
    ) -> Result<Vec<u32>, BpfError> {
        let mut changed = Vec::new();
        for old in slots {
            let mut new = old;
            change(&mut new);
            if new != old {
                self.maps.write_slot(new)?;
                changed.push(new.ifindex);
            }
        }
        Ok(changed)
    }
}
