//! Interfaces are taken on, become something else, and are freed.

use detector_common::{
    maps::MAX_PORTS,
    port::{PortSlot, Role, flags},
    settings::Settings,
};
use detector_core::model::LinkKind;

use super::{KernelEnforcer, programs_of, resync::bare};
use crate::{
    bpf::{BpfError, Hook, Method, shield},
    net::link_by_index,
};

impl KernelEnforcer {
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
    pub(super) fn take_on(&mut self, ifindex: u32, name: &str, role: Role) -> Result<(), BpfError> {
        self.take_on_as(ifindex, name, role, 0)
    }

    pub(super) fn take_on_as(
        &mut self,
        ifindex: u32,
        name: &str,
        role: Role,
        bits: u32,
    ) -> Result<(), BpfError> {
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
            flags: bits,
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

    /// Makes of an interface that is none of a bridge's another of those, in place: what the host routes from
    /// it goes on. Whether there is one.
    pub(super) fn turn(&mut self, ifindex: u32, role: Role, bits: u32) -> Result<bool, BpfError> {
        let Some(old) = self.mirror.interfaces.get(&ifindex).map(|held| held.slot) else {
            return Ok(false);
        };
        if !old.role().is_aside() || old.role() == role || !self.is_alive(&old)? {
            return Ok(false);
        }
        let slot = PortSlot { role: role as u8, flags: old.flags & flags::OF_PLACE | bits, ..old };
        self.maps.write_slot(slot)?;
        self.instance(ifindex, old.instance)?.slot = slot;
        self.links.drop(ifindex);
        self.method.detach(&self.pins, ifindex)?;
        self.attach_all(&slot)?;
        Ok(true)
    }

    pub(super) fn attach_all(&mut self, slot: &PortSlot) -> Result<(), BpfError> {
        for &(hook, program) in programs_of(slot) {
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
}

/// What a guest sends leaves a macvtap, and what it is sent comes in by it: its guard is the other way
/// round.
pub(super) fn guest_role(ifindex: u32) -> Result<Role, BpfError> {
    let kind = link_by_index(ifindex)?.map(|link| link.kind);
    Ok(if kind.is_some_and(LinkKind::is_shared_macvtap) {
        Role::GuestOnDevice
    } else {
        Role::Guest
    })
}
