//! One action after the other. Carrying one out again changes nothing.

use detector_common::{
    addr::{Address, Mac},
    port::{Grant, GrantKey, PortSlot, PrefixKey, Role, flags},
    settings::Settings,
};
use detector_core::{
    model::{ObservedInterface, Quarantine, QuarantineTarget, Shield},
    reconcile::{Action, GrantEntry, SlotEntry},
};

use super::{KernelEnforcer, interfaces::guest_role};
use crate::bpf::{BpfError, shield};

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
            Action::Trust { ifindex, name } => {
                if self.turn(*ifindex, Role::Trusted, 0)? {
                    return Ok(());
                }
                self.take_on(*ifindex, name, Role::Trusted)
            }
            Action::AttachDevice { ifindex, name, trusted, closed } => {
                let role = if *closed { Role::ClosedDevice } else { Role::Device };
                let bits = if *trusted { flags::TRUSTED } else { 0 };
                if self.turn(*ifindex, role, bits)? {
                    return Ok(());
                }
                self.take_on_as(*ifindex, name, role, bits)
            }
            Action::Release { ifindex } => self.release(*ifindex),
            Action::PutGrants { ifindex, instance, grants } => {
                self.put_grants(*ifindex, *instance, grants)
            }
            Action::WriteSlot { ifindex, instance, slot } => {
                self.write_slot(*ifindex, *instance, slot)
            }
            Action::SetObserved { ifindex, instance, observed } => {
                self.set_flag(*ifindex, *instance, flags::OBSERVED, *observed)
            }
            Action::SetSwitched { ifindex, instance, switched } => {
                self.set_flag(*ifindex, *instance, flags::SWITCHED, *switched)
            }
            Action::DropGrants { ifindex, instance, grants } => {
                self.drop_grants(*ifindex, *instance, grants)
            }
            Action::Teach { ifindex, instance, seeds } => self.teach(*ifindex, *instance, seeds),
            Action::Protect { entries } => self.protect(entries),
            Action::Unprotect { entries } => self.unprotect(entries),
            Action::OfferServices { entries } => self.offer_services(entries),
            Action::WithdrawServices { entries } => self.withdraw_services(entries),
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
            Action::MakeSandbox { name } => self.make_sandbox(name),
            Action::OpenPassage { ifindex, instance, bridge } => {
                self.open_passage(*ifindex, *instance, *bridge)
            }
            Action::ClosePassage { ifindex, instance } => {
                self.instance(*ifindex, *instance)?;
                self.close_passage(*ifindex)
            }
            Action::PutQuarantine(quarantine) | Action::GiveQuarantineBack(quarantine) => {
                self.put_quarantine(quarantine)
            }
            Action::LiftQuarantine(target) => self.lift_quarantine(*target),
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
            flags: entry.flags | old.flags & flags::OF_PLACE,
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
            let kept = flags::ISOLATED | flags::ISOLATED_BY_OPERATOR | flags::OF_PLACE;
            let kept = old.flags & kept;
            self.maps.write_slot(PortSlot { flags: kept, ..old })?;
            self.maps.write_slot(PortSlot { flags: kept, ..new })?;
        }
        self.maps.write_slot(new)?;
        self.instance(ifindex, instance)?.slot = new;
        self.leave_sandbox(&old, &new)
    }

    /// Sets or clears one of [`flags::OF_PLACE`].
    fn set_flag(
        &mut self,
        ifindex: u32,
        instance: u32,
        flag: u32,
        is_set: bool,
    ) -> Result<(), BpfError> {
        let mut slot = self.instance(ifindex, instance)?.slot;
        slot.flags &= !flag;
        slot.flags |= if is_set { flag } else { 0 };
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
