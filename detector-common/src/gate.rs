//! Which frames are delivered: what no guard has vetted goes nowhere, by where a frame comes from and
//! whether it carries the stamp. Whatever takes a look-up is asked for only where it matters.

use crate::{
    addr::Station,
    port::{GrantKey, PortSlot, Role, flags},
    reason::Reason,
    verdict::Grants,
};

/// linux/if_packet.h
const PACKET_HOST: u32 = 0;
const PACKET_LOOPBACK: u32 = 5;

/// Whether frames that came in by this interface, and carry the stamp, may be delivered.
#[inline(always)]
pub const fn is_in_force(slot: &PortSlot) -> bool {
    match slot.role() {
        Role::Vacant | Role::Sandbox => false,
        Role::Guest | Role::GuestOnDevice => slot.delivers(),
        Role::Uplink | Role::Bridge | Role::Trusted => true,
        Role::Device | Role::ClosedDevice => slot.has(flags::TRUSTED),
    }
}

/// Whether a frame on its way out of a bridge comes from where it may: from the host itself, or stamped
/// and from an interface in force. `source` is the interface by which it came into the host; where there
/// is none, `vet_sourceless` says.
#[inline(always)]
pub fn vet_source<'a>(
    source: u32,
    is_stamped: impl FnOnce() -> bool,
    slot_of: impl FnOnce(u32) -> Option<&'a PortSlot>,
    vet_sourceless: impl FnOnce() -> Reason,
) -> Reason {
    if source == 0 {
        return vet_sourceless();
    }
    if !is_stamped() {
        return Reason::Unvetted;
    }
    match slot_of(source) {
        Some(slot) if is_in_force(slot) => Reason::Vetted,
        _ => Reason::SourceNotInForce,
    }
}

/// Whether a frame that came in by no interface is the host's own, at a place with this slot. On a bridge it
/// is; in a datapath of Open vSwitch it may be a guest's too, and the host's own are stamped there. What goes
/// to the bridges' own groups is the switch's (LACP, STP, LLDP): it forwards none that comes in.
#[inline(always)]
pub fn vet_sourceless(
    place: Option<&PortSlot>,
    is_stamped: impl FnOnce() -> bool,
    is_control: impl FnOnce() -> bool,
) -> Reason {
    if !place.is_some_and(|slot| slot.has(flags::SWITCHED)) {
        Reason::HostOwn
    } else if is_stamped() {
        Reason::Vetted
    } else if is_control() {
        Reason::HostOwn
    } else {
        Reason::Unvetted
    }
}

/// Whether a frame may go to the guest of a port. `vet_source` says whether it comes from where it may;
/// `is_brought`, to a port in the sandbox, whether its own passage has brought it.
#[inline(always)]
pub fn vet_towards(
    slot: &PortSlot,
    vet_source: impl FnOnce() -> Reason,
    is_brought: impl FnOnce() -> bool,
) -> Reason {
    if slot.flags & (flags::GRANTED | flags::ISOLATED) == flags::GRANTED {
        vet_source()
    } else if slot.has(flags::ISOLATED) {
        if is_brought() { Reason::Sandboxed } else { Reason::PortIsolated }
    } else {
        Reason::PortPending
    }
}

/// Whether a frame that the bridge hands to the host may be: there the source is the bridge itself, so
/// that the stamp alone decides.
#[inline(always)]
pub fn vet_for_host(is_stamped: bool, is_own_multicast: impl FnOnce() -> bool) -> Reason {
    if is_stamped {
        Reason::Vetted
    } else if is_own_multicast() {
        Reason::HostOwn
    } else {
        Reason::Unvetted
    }
}

/// What a frame carries of how a guard or gate has judged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vetting {
    Unvetted,
    Vetted,
    /// Refused, and goes on all the same: the port only observes.
    Refused,
}

/// Frames that the host routes into a bridge come from an interface that is known to lead
/// elsewhere. A guest's port is none: its frames come by its bridge.
#[inline(always)]
pub const fn vet_routed(source: Option<&PortSlot>) -> Reason {
    match source {
        None => Reason::Unvetted,
        Some(slot) if leads_beyond(slot) || matches!(slot.role(), Role::Bridge) => Reason::Vetted,
        Some(_) => Reason::SourceNotInForce,
    }
}

/// Whether what comes in by an interface comes from beyond the host, and from no guest.
#[inline(always)]
const fn leads_beyond(slot: &PortSlot) -> bool {
    match slot.role() {
        Role::Uplink | Role::Trusted => true,
        Role::Device | Role::ClosedDevice => slot.has(flags::TRUSTED),
        Role::Vacant | Role::Guest | Role::GuestOnDevice | Role::Bridge | Role::Sandbox => false,
    }
}

/// Multicast that the host sends to itself: looped back by a socket, or the bridge's own IGMP or MLD
/// query. Frames from a port never look so: for them the network stack has set the packet type
/// from the destination. `destination` is the first byte of that.
#[inline(always)]
pub fn is_own_multicast(packet_type: u32, destination: impl FnOnce() -> Option<u8>) -> bool {
    match packet_type {
        PACKET_LOOPBACK => true,
        PACKET_HOST => destination().is_some_and(|first| first & 1 != 0),
        _ => false,
    }
}

/// Whether a frame on its way to the port `to` comes from where a DHCP server may be: the host itself
/// (no `source`), an uplink, an interface that is trusted, or a port with that role. In observe mode any
/// other's comes by too. `sender` is who sent it, by the frame; `vetting`, what the frame carries, which says
/// whose it is where the source does not.
#[inline(always)]
pub fn may_serve<'a>(
    source: u32,
    to: &PortSlot,
    slot_of: impl FnOnce(u32) -> Option<&'a PortSlot>,
    sender: impl FnOnce() -> Option<Station>,
    vetting: impl FnOnce() -> Vetting,
    more: &impl Grants,
) -> bool {
    if source == 0 {
        return is_own(to, vetting);
    }
    let Some(slot) = slot_of(source) else { return false };
    match slot.role() {
        // A neighbour's on the same device has been let through by its own guard, which knows its role.
        Role::GuestOnDevice => source == to.ifindex && !matches!(vetting(), Vetting::Refused),
        Role::Guest if slot.has(flags::DHCP_SERVER) => true,
        Role::Guest if slot.has(flags::MORE_GRANTS) => {
            let Some(sender) = sender() else { return false };
            let key = GrantKey {
                ifindex: slot.ifindex,
                instance: slot.instance,
                mac: sender.mac(),
                vlan: sender.vlan(),
                address: [0; 16],
            };
            more.grant(&key).is_some_and(|grant| grant.flags & flags::DHCP_SERVER != 0)
        }
        _ => leads_beyond(slot),
    }
}

/// Whether a frame on its way to the port `to` comes from where a router may be that is no guest's: the
/// host itself, an uplink, or an interface that is trusted. `vetting` is as in [`may_serve`].
#[inline(always)]
pub fn may_route<'a>(
    source: u32,
    to: &PortSlot,
    slot_of: impl FnOnce(u32) -> Option<&'a PortSlot>,
    vetting: impl FnOnce() -> Vetting,
) -> bool {
    if source == 0 {
        return is_own(to, vetting);
    }
    let Some(slot) = slot_of(source) else { return false };
    match slot.role() {
        // What comes in by a port on a device of its own comes from beyond the host, but for what its
        // neighbours there say: their guards have marked that.
        Role::GuestOnDevice => source == to.ifindex && matches!(vetting(), Vetting::Unvetted),
        _ => leads_beyond(slot),
    }
}

/// Whether a frame that came in by no interface may be the host's own: on the way through a switch's daemon a
/// guest's loses its source, too.
#[inline(always)]
fn is_own(to: &PortSlot, vetting: impl FnOnce() -> Vetting) -> bool {
    !to.has(flags::SWITCHED) || matches!(vetting(), Vetting::Vetted)
}

#[cfg(test)]
mod tests;
