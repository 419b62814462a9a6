//! What the kernel holds, read anew.

use std::collections::BTreeSet;

use detector_common::{
    port::{MacOwner, PortSlot, Role},
    settings::Settings,
};
use detector_core::model::{
    Observed, ObservedInterface, Passage, Quarantine, QuarantineTarget, Shield,
};

use super::{KernelEnforcer, programs_of};
use crate::{
    bpf::{BpfError, Hook, attach::Standing, shield},
    net::{Changed, Changes, link_by_index},
};

impl KernelEnforcer {
    /// Reads everything anew. Slots whose interface is gone, or from which somebody has taken our
    /// programs, are not in force: they are freed, and what belonged to them with them.
    ///
    /// While this process knows what it has put in force, what others have made of it is put right
    /// first, and told by the next look around.
    pub fn resync(&mut self) -> Result<(), BpfError> {
        if !self.mirror.interfaces.is_empty() {
            self.verify_all()?;
        }
        self.changes.take()?;
        self.settings = self.maps.settings()?;
        let mut mirror = Observed {
            // Before the mode has been set for the first time, nothing is decided.
            mode: self.mirror.mode.as_ref().map(|_| self.mode_now()),
            ..Observed::default()
        };
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
                let shield = self.shield_on(slot.ifindex)?;
                mirror.interfaces.insert(slot.ifindex, ObservedInterface { shield, ..bare(slot) });
            } else {
                dead.insert(slot.ifindex);
            }
        }
        self.mirror = mirror;
        let living = self.mirror.interfaces.values().map(|held| held.slot.instance).collect();
        let nobodys = self.maps.sweep_owners(&living, self.clock)?;
        (self.mirror.protected, self.mirror.routers) = (nobodys.protected, nobodys.routers);
        self.mirror.services = self.maps.services()?;
        self.read_grants()?;
        self.read_forwarding(None)?;
        self.read_passages()?;
        dead.extend(self.pins.paths().linked()?);
        let ours = |held: &ObservedInterface| held.passage.map(|passage| passage.inner);
        let passages: BTreeSet<_> = self.mirror.interfaces.values().filter_map(ours).collect();
        dead.retain(|ifindex| {
            !self.mirror.interfaces.contains_key(ifindex) && !passages.contains(ifindex)
        });
        for ifindex in dead {
            self.release(ifindex)?;
        }
        Ok(())
    }

    /// Looks at the interfaces that have changed since the last look: frees those that are no longer
    /// what they were, and reads the forwarding entries of those that left their bridge. Returns
    /// whether there were any.
    pub(super) fn absorb_changes(&mut self) -> Result<bool, BpfError> {
        let ours = || self.mirror.interfaces.keys().copied();
        let Changes { changed, deleted, mut left } = match self.changes.take()? {
            Changed::Some(changes) => changes,
            Changed::Any => Changes {
                changed: ours().collect(),
                deleted: ours().collect(),
                left: ours().collect(),
            },
        };
        if changed.is_empty() {
            return Ok(false);
        }
        let mut any = false;
        for ifindex in deleted {
            // What somebody has taken our programs from, but lives, keeps its instance: they are put
            // back. What they were put back on is this one only if it had not been deleted before.
            let Some(interface) = self.mirror.interfaces.get(&ifindex) else { continue };
            if self.watch.put_back.contains(&ifindex) || !self.is_alive(&interface.slot)? {
                left.remove(&ifindex);
                self.release(ifindex)?;
                any = true;
            }
        }
        left.retain(|ifindex| self.mirror.interfaces.contains_key(ifindex));
        if !left.is_empty() {
            self.read_forwarding(Some(&left))?;
        }
        let changed: BTreeSet<u32> =
            changed.into_iter().filter(|i| self.mirror.interfaces.contains_key(i)).collect();
        self.renew_forwarding(&changed)?;
        let leads_out = |ifindex: &u32| {
            let held = self.mirror.interfaces.get(ifindex);
            held.is_some_and(|held| matches!(held.slot.role(), Role::Uplink | Role::Bridge))
        };
        if changed.iter().any(leads_out) {
            self.renew_native_vlans()?;
        }
        Ok(any || !changed.is_empty())
    }

    /// Looks at the shields and at the passages to the sandbox; returns whether any has changed.
    pub(super) fn recheck_aside(&mut self) -> Result<bool, BpfError> {
        let on = self.mirror.interfaces.iter().filter(|(_, held)| held.shield == Shield::On);
        let shielded: Vec<_> = on.map(|(ifindex, _)| *ifindex).collect();
        let mut changed = false;
        for ifindex in shielded {
            let shield = self.shield_on(ifindex)?;
            if shield == Shield::Off
                && let Some(held) = self.mirror.interfaces.get_mut(&ifindex)
            {
                held.shield = shield;
                changed = true;
            }
        }
        changed |= self.recheck_passages()?;
        Ok(changed)
    }

    /// Whether the slot's interface is the one that our programs were attached to. A trusted
    /// interface has none, and is taken for the same while its index is in use.
    pub(super) fn is_alive(&self, slot: &PortSlot) -> Result<bool, BpfError> {
        let programs = programs_of(slot);
        if programs.is_empty() {
            return Ok(slot.role() != Role::Vacant && link_by_index(slot.ifindex)?.is_some());
        }
        for &(hook, program) in programs {
            if self.standing(slot.ifindex, hook, program)? == Standing::Absent {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn standing(
        &self,
        ifindex: u32,
        hook: Hook,
        program: &str,
    ) -> Result<Standing, BpfError> {
        self.method.standing(&self.links, &self.pins, ifindex, hook, program)
    }

    fn shield_on(&self, ifindex: u32) -> Result<Shield, BpfError> {
        let on = shield::alive(self.pins.paths(), ifindex)?;
        Ok(if on { Shield::On } else { Shield::Off })
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
        // A start that ended before it had set one has chosen nothing.
        self.mirror.mode = (self.settings.has_mode != 0).then(|| self.mode_now());
        Ok(())
    }

    /// Puts the programs of this build in the place of those that run.
    pub(super) fn replace_programs(&mut self) -> Result<(), BpfError> {
        let all = self.mirror.interfaces.values();
        let held: Vec<_> = all.map(|held| (held.slot, held.passage, held.shield)).collect();
        for (slot, passage, shield) in held {
            self.attach_all(&slot)?;
            if let Some(Passage { inner, .. }) = passage {
                self.attach_passage(inner)?;
            }
            if shield == Shield::On {
                shield::attach(&mut self.programs, &self.pins, slot.ifindex)?;
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
        for (station, MacOwner { ifindex, instance }) in self.maps.mac_owners()? {
            match self.instance_mut(ifindex, instance) {
                Some(interface) => {
                    interface.defended.insert(station);
                }
                None => self.maps.drop_mac_owner(station)?,
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
        defended: Default::default(),
        shield: Shield::Off,
        passage: None,
    }
}
