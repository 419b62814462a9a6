//! What the kernel holds, read anew.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::{
    addr::Mac,
    port::{PortSlot, Role},
    settings::{Mode, Settings},
};
use detector_core::model::{Observed, ObservedInterface, Quarantine, QuarantineTarget};

use super::{KernelEnforcer, programs_of};
use crate::{
    bpf::BpfError,
    net::{Changed, link_by_index},
};

impl KernelEnforcer {
    /// Reads everything anew. Slots whose interface is gone, or from which somebody has taken our
    /// programs, are not in force: they are freed, and what belonged to them with them.
    pub fn resync(&mut self) -> Result<(), BpfError> {
        self.changes.take()?;
        self.settings = self.maps.settings()?;
        let mut mirror = Observed {
            // Before the mode has been set for the first time, nothing is decided.
            mode: self.mirror.mode,
            ..Observed::default()
        };
        if mirror.mode.is_some() {
            mirror.mode = Some(mode(&self.settings));
        }
        for (key, record) in self.maps.quarantines()? {
            match QuarantineTarget::try_from(key) {
                Ok(target) => {
                    mirror.quarantines.insert(target, Quarantine::from_record(target, &record));
                }
                Err(error) => tracing::warn!(%error, "a quarantine is left as it is"),
            }
        }
        let mut dead = BTreeSet::new();
        for slot in self.maps.slots()? {
            if self.is_alive(&slot)? {
                mirror.interfaces.insert(slot.ifindex, bare(slot));
            } else {
                dead.insert(slot.ifindex);
            }
        }
        self.mirror = mirror;
        let living = self.mirror.interfaces.values().map(|held| held.slot.instance).collect();
        self.mirror.protected = self.maps.sweep_owners(&living)?;
        self.read_grants()?;
        self.read_forwarding(None)?;
        dead.extend(self.pins.paths().linked()?);
        dead.retain(|ifindex| !self.mirror.interfaces.contains_key(ifindex));
        for ifindex in dead {
            self.release(ifindex)?;
        }
        Ok(())
    }

    /// Looks at the interfaces that have changed since the last look: frees those that are no longer
    /// what they were, and reads the forwarding entries of the others, which go when an interface
    /// leaves its bridge.
    pub(super) fn absorb_changes(&mut self) -> Result<(), BpfError> {
        let ours = || self.mirror.interfaces.keys().copied();
        let mut changed: BTreeSet<u32> = match self.changes.take()? {
            Changed::Some(changed) if changed.is_empty() => return Ok(()),
            Changed::Some(changed) => ours().filter(|ifindex| changed.contains(ifindex)).collect(),
            Changed::Any => ours().collect(),
        };
        let mut dead = Vec::new();
        for ifindex in &changed {
            let interface = self.mirror.interfaces.get(ifindex);
            if let Some(interface) = interface
                && !self.is_alive(&interface.slot)?
            {
                dead.push(*ifindex);
            }
        }
        for ifindex in dead {
            changed.remove(&ifindex);
            self.release(ifindex)?;
        }
        if changed.is_empty() {
            return Ok(());
        }
        self.read_forwarding(Some(&changed))?;
        self.renew_forwarding(&changed)
    }

    /// Looks whether our programs still run where they should, and frees the interfaces from which
    /// somebody has taken them: a guard that is put back is another instance. Returns whether any
    /// was, or anything else that a look shows is no longer as it was: a port that has become a member of
    /// another VLAN is told of by no event.
    pub fn recheck(&mut self) -> Result<bool, BpfError> {
        let before = self.places();
        self.absorb_changes()?;
        let slots: Vec<_> = self.mirror.interfaces.values().map(|held| held.slot).collect();
        for slot in slots {
            if !self.is_alive(&slot)? {
                self.release(slot.ifindex)?;
            }
        }
        Ok(self.places() != before)
    }

    /// Our interfaces, and which MACs are kept on them.
    fn places(&self) -> BTreeMap<u32, BTreeSet<(Mac, u16)>> {
        let interfaces = self.mirror.interfaces.iter();
        interfaces.map(|(ifindex, held)| (*ifindex, held.forwarding.clone())).collect()
    }

    /// Whether the slot's interface is the one that our programs were attached to. A trusted
    /// interface has none, and is taken for the same while its index is in use.
    pub(super) fn is_alive(&self, slot: &PortSlot) -> Result<bool, BpfError> {
        let Some(programs) = programs_of(slot) else {
            return Ok(slot.role() != Role::Vacant && link_by_index(slot.ifindex)?.is_some());
        };
        for (hook, program) in programs {
            if !self.method.alive(&self.pins, slot.ifindex, hook, program)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Settings that are the daemon's to choose; mode and instance numbers stay.
    pub(super) fn take_settings(&mut self) -> Result<(), BpfError> {
        let fresh = self.settings.next_instance == 0;
        let kept = if fresh { Settings::DEFAULT } else { self.settings };
        let settings = Settings { hz: self.clock.hz(), ..kept };
        if settings != self.settings {
            self.maps.write_settings(settings)?;
            self.settings = settings;
        }
        self.mirror.mode = (!fresh).then(|| mode(&settings));
        Ok(())
    }

    /// Puts the programs of this build in the place of those that run.
    pub(super) fn replace_programs(&mut self) -> Result<(), BpfError> {
        for interface in self.mirror.interfaces.values() {
            for (hook, program) in programs_of(&interface.slot).into_iter().flatten() {
                let ifindex = interface.slot.ifindex;
                self.method.attach(&mut self.programs, program, &self.pins, ifindex, hook)?;
            }
        }
        Ok(())
    }

    /// Grants of instances that are no more are dropped.
    fn read_grants(&mut self) -> Result<(), BpfError> {
        for (key, grant) in self.maps.grants()? {
            match self.instance_mut(key.ifindex, key.instance) {
                Some(interface) => {
                    interface.grants.insert(key, grant);
                }
                None => self.maps.drop_grant(key)?,
            }
        }
        for (prefix, grant) in self.maps.prefixes()? {
            let (key, _) = prefix;
            let [ifindex, instance] = [key.ifindex, key.instance].map(u32::from_ne_bytes);
            match self.instance_mut(ifindex, instance) {
                Some(interface) => {
                    interface.prefixes.insert(prefix, grant);
                }
                None => self.maps.drop_prefix(prefix)?,
            }
        }
        Ok(())
    }

    fn instance_mut(&mut self, ifindex: u32, instance: u32) -> Option<&mut ObservedInterface> {
        let interface = self.mirror.interfaces.get_mut(&ifindex)?;
        (interface.slot.instance == instance).then_some(interface)
    }
}

/// An interface of which only the slot is known.
pub(super) fn bare(slot: PortSlot) -> ObservedInterface {
    ObservedInterface {
        slot,
        grants: Default::default(),
        prefixes: Default::default(),
        forwarding: Default::default(),
    }
}

fn mode(settings: &Settings) -> Mode {
    if settings.enforces() { Mode::Enforce } else { Mode::Observe }
}
