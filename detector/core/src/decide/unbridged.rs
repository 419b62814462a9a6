//! Interfaces of VMs on which no guard can be, because they are on no bridge.

use crate::model::{Link, LinkKind, PowerState, Vm, World};

/// The interfaces of a VM that are there and on no bridge at all, by ifindex. One on a bridge that
/// the configuration leaves out is left out on purpose.
pub(super) fn loose<'a>(vm: &'a Vm, world: &'a World) -> impl Iterator<Item = u32> + 'a {
    // One that starts is being put there.
    let runs = !matches!(vm.power, PowerState::Off | PowerState::Starting);
    let named = |name: &str| world.links.values().find(|link| link.name == name);
    let ports = vm.nics.iter().filter(move |_| runs);
    let ports = ports.filter_map(move |nic| named(nic.port.as_deref()?));
    ports.filter(|link| !is_macvtap(link) && !is_bridged(link, world)).map(|link| link.ifindex)
}

/// One has a guard without a bridge; of the other its source says that it has none.
fn is_macvtap(link: &Link) -> bool {
    matches!(link.kind, LinkKind::Macvtap | LinkKind::MacvtapPassthrough)
}

fn is_bridged(link: &Link, world: &World) -> bool {
    let master = link.master.and_then(|master| world.links.get(&master));
    master.is_some_and(|master| master.kind == LinkKind::Bridge)
}
