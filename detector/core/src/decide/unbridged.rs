//! Interfaces of VMs on which no guard can be: those on no bridge, and macvtaps that have their device to
//! themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Link, LinkKind, PowerState, Vm, World};

/// The interfaces of these VMs that are there and on no bridge at all, by ifindex. One on a bridge
/// that the configuration leaves out is left out on purpose.
pub(super) fn loose<'a>(vms: impl Iterator<Item = &'a Vm>, world: &World) -> BTreeSet<u32> {
    let alone = world.links.values().filter(|link| !is_macvtap(link) && !is_bridged(link, world));
    let alone: BTreeMap<&str, u32> = alone.map(|link| (link.name.as_str(), link.ifindex)).collect();
    // The interface of a VM that starts is being put where it belongs.
    let running = vms.filter(|vm| !matches!(vm.power, PowerState::Off | PowerState::Starting));
    let ports = running.flat_map(|vm| &vm.nics).filter_map(|nic| nic.port.as_deref());
    ports.filter_map(|port| alone.get(port).copied()).collect()
}

/// Those of them that are this VM's.
pub(super) fn of_vm<'a>(
    loose: &'a BTreeSet<u32>,
    vm: &'a Vm,
    world: &'a World,
) -> impl Iterator<Item = &'a Link> {
    let is_its = |link: &&Link| vm.nics.iter().any(|nic| nic.port.as_deref() == Some(&link.name));
    loose.iter().filter_map(|ifindex| world.links.get(ifindex)).filter(is_its)
}

/// The macvtaps of this VM that have their device to themselves, whatever source the VM is from. One
/// that does not name its ports is known by its MACs, which such a macvtap shares with its device.
pub(super) fn passed_through<'a>(vm: &'a Vm, world: &'a World) -> impl Iterator<Item = &'a Link> {
    let links = world.links.values().filter(|link| link.kind == LinkKind::MacvtapPassthrough);
    links.filter(|link| {
        vm.nics.iter().any(|nic| match nic.port.as_deref() {
            Some(port) => port == link.name,
            None => link.mac == Some(nic.mac),
        })
    })
}

/// One has a guard without a bridge; the other has none, on a bridge or not.
fn is_macvtap(link: &Link) -> bool {
    link.kind.is_shared_macvtap() || link.kind == LinkKind::MacvtapPassthrough
}

fn is_bridged(link: &Link, world: &World) -> bool {
    let master = link.master.and_then(|master| world.links.get(&master));
    let switches = |link: &Link| matches!(link.kind, LinkKind::Bridge | LinkKind::OpenVSwitch);
    master.is_some_and(switches)
}
