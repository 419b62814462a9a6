//! One action after the other. Carrying one out again changes nothing.

use detector_common::{
    addr::{Address, Mac},
    maps::MAX_PORTS,
    port::{Grant, GrantKey, PortSlot, PrefixKey, Role, flags},
    settings::Settings,
};
use detector_core::{
    model::{LinkKind, ObservedInterface, Quarantine, QuarantineTarget, Shield},
    reconcile::{Action, GrantEntry, SlotEntry},
};

use super::{KernelEnforcer, programs_of, resync::bare};
use crate::{
    bpf::{BpfError, Hook, Method, shield},
    net::link_by_index,
};

impl KernelEnforcer {
    pub(super) fn carry_out(&mut self, action: &Action) -> Result<(), BpfError> {
        match action {
            Action::SetMode(record) => self.set_mode(record),
            Action::AttachGuard { ifindex, name } => {
                self.take_on(*ifindex, name, guest_role(*ifindex)?)
            }
            Action::AttachUplink { ifindex, name } => {
                self.take_on(*ifindex, name, Role::Uplink)?;
                self.renew_native_vlans()
            }
            Action::AttachBridge { ifindex, name } => self.take_on(*ifindex, name, Role::Bridge),
            Action::AttachSandbox { ifindex, name } => self.take_on(*ifindex, name, Role::Sandbox),
            Action::Trust { ifindex, name } => self.take_on(*ifindex, name, Role::Trusted),
            Action::Release { ifindex } => self.release(*ifindex),
            Action::PutGrants { ifindex, instance, grants } => {
                self.put_grants(*ifindex, *instance, grants)
            }
            Action::WriteSlot { ifindex, instance, slot } => {
                self.write_slot(*ifindex, *instance, slot)
            }
            Action::SetObserved { ifindex, instance, observed } => {
                self.set_observed(*ifindex, *instance, *observed)
            }
            Action::DropGrants { ifindex, instance, grants } => {
                self.drop_grants(*ifindex, *instance, grants)
            }
            Action::Teach { ifindex, instance, seeds } => self.teach(*ifindex, *instance, seeds),
            Action::Protect { entries } => self.protect(entries),
            Action::Unprotect { entries } => self.unprotect(entries),
            Action::PinForwarding { ifindex, mac, vlan } => {
                self.pin_forwarding(*ifindex, *mac, *vlan)
            }
            Action::UnpinForwarding { ifindex, mac, vlan } => {
                self.unpin_forwarding(*ifindex, *mac, *vlan)
            }
            Action::DefendMac { ifindex, instance, mac, vlan } => {
                self.defend_mac(*ifindex, *instance, (*mac, *vlan))
            }
            Action::YieldMac { ifindex, instance, mac, vlan } => {
                self.yield_mac(*ifindex, *instance, (*mac, *vlan))
            }
            Action::PutShield { ifindex, instance } => self.put_shield(*ifindex, *instance),
            Action::DropShield { ifindex, instance } => self.drop_shield(*ifindex, *instance),
            Action::OpenPassage { ifindex, instance, bridge } => {
                self.open_passage(*ifindex, *instance, *bridge)
            }
            Action::ClosePassage { ifindex, instance } => {
                self.instance(*ifindex, *instance)?;
                self.close_passage(*ifindex)
            }
            Action::PutQuarantine(quarantine) => self.put_quarantine(quarantine),
            Action::LiftQuarantine(target) => self.lift_quarantine(*target),
        }
    }

    /// Frees an interface. The slot goes first: from then on a guard that still runs lets nothing
    /// through, so that nothing is delivered on a grant that is being withdrawn.
    pub(super) fn release(&mut self, ifindex: u32) -> Result<(), BpfError> {
        self.maps.clear_slot(ifindex)?;
        let interface = self.mirror.interfaces.remove(&ifindex);
        self.links.drop(ifindex);
        // What it was granted goes before what may fail on the interface itself.
        if let Some(interface) = interface {
            self.maps.clear_learned(interface.slot.id)?;
            for key in interface.grants.into_keys() {
                self.maps.drop_grant(key)?;
            }
            for prefix in interface.prefixes.into_keys() {
                self.maps.drop_prefix(prefix)?;
            }
            for station in interface.defended {
                self.yield_mac(ifindex, interface.slot.instance, station)?;
            }
            for (mac, vlan) in interface.forwarding {
                self.unpin_forwarding(ifindex, mac, vlan)?;
            }
        }
        self.close_passage(ifindex)?;
        shield::detach(&self.pins, ifindex)?;
        self.method.detach(&self.pins, ifindex)
    }

    /// Gives an interface a slot, then attaches the programs of its role. One that has them already
    /// keeps its instance.
    fn take_on(&mut self, ifindex: u32, name: &str, role: Role) -> Result<(), BpfError> {
        if let Some(interface) = self.mirror.interfaces.get(&ifindex) {
            let slot = &interface.slot;
            if slot.role() == role && self.is_alive(slot)? {
                return Ok(());
            }
        }
        self.release(ifindex)?;
        let slot = PortSlot {
            ifindex,
            instance: self.next_instance()?,
            id: self.lowest_free_id()?,
            role: role as u8,
            ..PortSlot::VACANT
        };
        self.maps.clear_traces(slot.id)?;
        self.maps.write_slot(slot)?;
        if let Err(error) = self.attach_all(&slot) {
            // Nothing may stay that looks as if the interface was guarded.
            if let Err(error) = self.release(ifindex) {
                tracing::error!(ifindex, %error, "a slot cannot be withdrawn");
            }
            let step = format!("take on {}", name.escape_debug());
            return Err(BpfError::failed(step)(error));
        }
        self.mirror.interfaces.insert(ifindex, bare(slot));
        Ok(())
    }

    pub(super) fn attach_all(&mut self, slot: &PortSlot) -> Result<(), BpfError> {
        for (hook, program) in programs_of(slot).into_iter().flatten() {
            self.attach(slot.ifindex, hook, program)?;
        }
        Ok(())
    }

    pub(super) fn attach(
        &mut self,
        ifindex: u32,
        hook: Hook,
        program: &str,
    ) -> Result<(), BpfError> {
        self.method.attach(&mut self.programs, program, &self.pins, ifindex, hook)?;
        self.hold(ifindex, hook)
    }

    /// Keeps our link open, so that it stays when its pin is removed.
    pub(super) fn hold(&mut self, ifindex: u32, hook: Hook) -> Result<(), BpfError> {
        match self.method {
            Method::Tcx => self.links.hold(self.pins.paths(), ifindex, hook),
            Method::Clsact => Ok(()),
        }
    }

    /// The number is used up before it is used: no two instances ever have the same, even when we
    /// die here.
    fn next_instance(&mut self) -> Result<u32, BpfError> {
        let instance = self.settings.next_instance.max(1);
        let next_instance = instance.checked_add(1).ok_or_else(|| {
            BpfError::Refused("all 4,294,967,295 instance numbers are used up".into())
        })?;
        self.change_settings(Settings { next_instance, ..self.settings })?;
        Ok(instance)
    }

    fn lowest_free_id(&self) -> Result<u16, BpfError> {
        let mut taken: Vec<_> = self.mirror.interfaces.values().map(|i| i.slot.id).collect();
        taken.sort_unstable();
        let free = (0..).zip(&taken).take_while(|(id, taken)| id == *taken).count();
        match u16::try_from(free) {
            Ok(id) if u32::from(id) < MAX_PORTS => Ok(id),
            _ => Err(BpfError::Refused(format!(
                "all {MAX_PORTS} places for guarded interfaces are taken: leave bridges out of \
                 `network.bridges`"
            ))),
        }
    }

    pub(super) fn change_settings(&mut self, settings: Settings) -> Result<(), BpfError> {
        if settings != self.settings {
            self.maps.write_settings(settings)?;
            self.settings = settings;
        }
        Ok(())
    }

    /// Puts a verdict in force. The kernel copies a slot while programs read it, so a slot whose
    /// identity changes is mute for the moment in between: no frame is judged by a mixture.
    fn write_slot(
        &mut self,
        ifindex: u32,
        instance: u32,
        entry: &SlotEntry,
    ) -> Result<(), BpfError> {
        let old = self.instance(ifindex, instance)?.slot;
        let new = PortSlot {
            flags: entry.flags | old.flags & flags::OBSERVED,
            mac: Mac(entry.mac),
            vlan: entry.vlan,
            v4: entry.v4,
            v4_mask: entry.v4_mask,
            v6: Address::from_bytes(entry.v6),
            v6_mask: Address::from_bytes(entry.v6_mask),
            ..old
        };
        if new == old {
            return Ok(());
        }
        let identity = |slot: PortSlot| PortSlot { flags: 0, ..slot };
        let speaks = new.may_speak() || old.may_speak();
        if identity(new) != identity(old) && speaks {
            let kept = flags::ISOLATED | flags::ISOLATED_BY_OPERATOR | flags::OBSERVED;
            let kept = old.flags & kept;
            self.maps.write_slot(PortSlot { flags: kept, ..old })?;
            self.maps.write_slot(PortSlot { flags: kept, ..new })?;
        }
        self.maps.write_slot(new)?;
        self.instance(ifindex, instance)?.slot = new;
        self.leave_sandbox(&old, &new)
    }

    fn set_observed(
        &mut self,
        ifindex: u32,
        instance: u32,
        observed: bool,
    ) -> Result<(), BpfError> {
        let mut slot = self.instance(ifindex, instance)?.slot;
        slot.flags &= !flags::OBSERVED;
        slot.flags |= if observed { flags::OBSERVED } else { 0 };
        self.maps.write_slot(slot)?;
        self.instance(ifindex, instance)?.slot = slot;
        Ok(())
    }

    fn put_grants(
        &mut self,
        ifindex: u32,
        instance: u32,
        grants: &[GrantEntry],
    ) -> Result<(), BpfError> {
        self.instance(ifindex, instance)?;
        let mut exact = Vec::with_capacity(grants.len());
        for entry in grants {
            let grant = Grant { flags: entry.flags };
            match place(ifindex, instance, entry)? {
                Place::Exact(key) => exact.push((key, grant)),
                Place::Prefix(prefix) => {
                    self.maps.put_prefix(prefix, grant)?;
                    self.instance(ifindex, instance)?.prefixes.insert(prefix, grant);
                }
            }
        }
        if let Err(error) = self.maps.put_grants(&exact) {
            // Nobody knows which of them have been put.
            self.put_back(ifindex, instance, &exact)?;
            return Err(error);
        }
        let held = &mut self.instance(ifindex, instance)?.grants;
        if exact.len() < held.len() {
            held.extend(exact);
        } else {
            // Made as a whole is several times faster than one by one.
            held.append(&mut exact.into_iter().collect());
        }
        Ok(())
    }

    /// Makes of these entries what the record says of them: those that it does not know go. One that
    /// cannot be brought back goes into the record, so that it is known and dropped with the rest.
    fn put_back(
        &mut self,
        ifindex: u32,
        instance: u32,
        entries: &[(GrantKey, Grant)],
    ) -> Result<(), BpfError> {
        for (key, grant) in entries {
            let known = self.instance(ifindex, instance)?.grants.get(key).copied();
            let undone = match known {
                Some(known) => self.maps.put_grants(&[(*key, known)]),
                None => self.maps.drop_grant(*key),
            };
            if let Err(error) = undone {
                tracing::warn!(ifindex, %error, "a grant cannot be taken back");
                self.instance(ifindex, instance)?.grants.insert(*key, *grant);
            }
        }
        Ok(())
    }

    fn drop_grants(
        &mut self,
        ifindex: u32,
        instance: u32,
        grants: &[GrantEntry],
    ) -> Result<(), BpfError> {
        self.instance(ifindex, instance)?;
        for entry in grants {
            match place(ifindex, instance, entry)? {
                Place::Exact(key) => {
                    self.maps.drop_grant(key)?;
                    self.instance(ifindex, instance)?.grants.remove(&key);
                }
                Place::Prefix(prefix) => {
                    self.maps.drop_prefix(prefix)?;
                    self.instance(ifindex, instance)?.prefixes.remove(&prefix);
                }
            }
        }
        Ok(())
    }

    fn put_quarantine(&mut self, quarantine: &Quarantine) -> Result<(), BpfError> {
        self.maps.put_quarantine(quarantine.target.into(), quarantine.record())?;
        self.mirror.quarantines.insert(quarantine.target, quarantine.clone());
        Ok(())
    }

    fn lift_quarantine(&mut self, target: QuarantineTarget) -> Result<(), BpfError> {
        self.maps.lift_quarantine(target.into())?;
        self.mirror.quarantines.remove(&target);
        Ok(())
    }

    fn put_shield(&mut self, ifindex: u32, instance: u32) -> Result<(), BpfError> {
        self.instance(ifindex, instance)?;
        let shield = shield::attach(&mut self.programs, &self.pins, ifindex)?;
        self.instance(ifindex, instance)?.shield = shield;
        Ok(())
    }

    fn drop_shield(&mut self, ifindex: u32, instance: u32) -> Result<(), BpfError> {
        self.instance(ifindex, instance)?;
        shield::detach(&self.pins, ifindex)?;
        self.instance(ifindex, instance)?.shield = Shield::Off;
        Ok(())
    }

    /// The interface, if it is the instance that the action means.
    pub(super) fn instance(
        &mut self,
        ifindex: u32,
        instance: u32,
    ) -> Result<&mut ObservedInterface, BpfError> {
        match self.mirror.interfaces.get_mut(&ifindex) {
            Some(interface) if interface.slot.instance == instance => Ok(interface),
            Some(interface) => Err(BpfError::Refused(format!(
                "interface {ifindex} is instance {} by now, and the verdict was on instance \
                 {instance}: judge it anew",
                interface.slot.instance
            ))),
            None => Err(BpfError::Refused(format!(
                "interface {ifindex} has no slot: attach its guard first"
            ))),
        }
    }
}

enum Place {
    Exact(GrantKey),
    Prefix((PrefixKey, u8)),
}

fn place(ifindex: u32, instance: u32, entry: &GrantEntry) -> Result<Place, BpfError> {
    let GrantEntry { mac, vlan, address, prefix, .. } = *entry;
    let mac = Mac(mac);
    match prefix {
        None => Ok(Place::Exact(GrantKey { ifindex, instance, mac, vlan, address })),
        Some(bits) if bits <= 128 => {
            let key = PrefixKey {
                ifindex: ifindex.to_ne_bytes(),
                instance: instance.to_ne_bytes(),
                mac,
                vlan: vlan.to_ne_bytes(),
                address,
            };
            Ok(Place::Prefix((key, bits)))
        }
        Some(bits) => Err(BpfError::Refused(format!("an address prefix of {bits} bits"))),
    }
}

/// What a guest sends leaves a macvtap, and what it is sent comes in by it: its guard is the other way
/// round.
fn guest_role(ifindex: u32) -> Result<Role, BpfError> {
    let kind = link_by_index(ifindex)?.map(|link| link.kind);
    Ok(if kind == Some(LinkKind::Macvtap) { Role::GuestOnDevice } else { Role::Guest })
}
