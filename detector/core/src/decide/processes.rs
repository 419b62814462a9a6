//! Which VM each process is.
//!
//! What a process says of itself proves nothing: its arguments, its name and its environment are its
//! own. What counts is what others say: the record that its manager keeps of the process of each VM,
//! and the taps that the kernel says it speaks through.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::settings::Mode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::inventory::Merged;
use crate::model::{Curb, Health, PowerState, ProcessId, Processes, Source, VmProcess, World};

/// The VM that a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessOwner {
    Vm(Uuid),
    /// A manager has recorded it as a VM's, and the inventory that would list the VM is lost.
    Unsettled,
    /// No inventory knows it.
    Nobody,
}

/// The owner of every process.
pub(super) fn owners(world: &World, inventory: &[Merged<'_>]) -> BTreeMap<ProcessId, ProcessOwner> {
    let found = &world.processes.found;
    let mut by_name: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    let mut by_port: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
    for vm in inventory.iter().map(|merged| &merged.vm) {
        by_name.entry(&vm.name).or_default().push(vm.uuid);
        if vm.power != PowerState::Off {
            for port in vm.nics.iter().filter_map(|nic| nic.port.as_deref()) {
                by_port.entry(port).or_default().insert(vm.uuid);
            }
        }
    }
    let lost = world.sources.values().any(|source| source.health != Health::Healthy);

    let recorded = |process: &VmProcess| -> Option<ProcessOwner> {
        let name = process.recorded.as_deref()?;
        Some(match by_name.get(name).map(Vec::as_slice) {
            Some([vm, ..]) => ProcessOwner::Vm(*vm),
            _ if lost => ProcessOwner::Unsettled,
            _ => ProcessOwner::Nobody,
        })
    };
    let mut owners: BTreeMap<_, _> =
        found.values().filter_map(|process| Some((process.id, recorded(process)?))).collect();
    // A VM whose process is on record has no other.
    let taken: BTreeSet<_> = owners.values().filter_map(ProcessOwner::vm).collect();
    for process in found.values().filter(|process| process.recorded.is_none()) {
        let vm = by_taps(process, &by_port).filter(|vm| !taken.contains(vm));
        owners.insert(process.id, vm.map_or(ProcessOwner::Nobody, ProcessOwner::Vm));
    }
    owners
}

/// VMs that no inventory knows and that are to be kept from running on, as far as the guard lets that be: while
/// enforcing holds, and every source speaks, since one that is silent may know them. Of those that were tried by then nothing
/// changes with it.
pub(super) fn strays(
    world: &World,
    owners: &BTreeMap<ProcessId, ProcessOwner>,
) -> BTreeMap<ProcessId, Curb> {
    let is_sure = is_sure(world);
    let (Some(curb), true) = (world.policy.curb, lasts(world)) else { return BTreeMap::new() };
    let is_stray = |process: &&VmProcess| {
        process.is_vm()
            && process.lasting
            && process.recorded.is_none()
            && owners.get(&process.id) == Some(&ProcessOwner::Nobody)
            && (is_sure || world.processes.is_tried(process.id))
    };
    let strays = world.processes.found.values().filter(is_stray);
    strays.map(|process| (process.id, curb)).collect()
}

/// Whether all strays are known, and none that is not among them is one.
pub(super) fn knows_strays(world: &World) -> bool {
    is_sure(world) && lasts(world)
}

fn is_sure(world: &World) -> bool {
    let speaks = |source: &Source| source.health == Health::Healthy;
    let Processes { scanned, lost, .. } = &world.processes;
    *scanned && lost.is_none() && world.sources.values().all(speaks)
}

fn lasts(world: &World) -> bool {
    world.mode() == Mode::Enforce && !world.is_on_trial() && !world.is_under_maintenance()
}

impl ProcessOwner {
    pub fn vm(&self) -> Option<Uuid> {
        match self {
            Self::Vm(vm) => Some(*vm),
            Self::Unsettled | Self::Nobody => None,
        }
    }
}

/// The only VM that all taps of the process are ports of. A tap of the same name in another network
/// namespace is another tap.
fn by_taps(process: &VmProcess, by_port: &BTreeMap<&str, BTreeSet<Uuid>>) -> Option<Uuid> {
    let mut taps = process.holds.taps.iter().map(|tap| {
        let vms = by_port.get(tap.name.as_str()).filter(|_| tap.here == Some(true))?;
        vms.first().copied().filter(|_| vms.len() == 1)
    });
    let first = taps.next()??;
    taps.all(|vm| vm == Some(first)).then_some(first)
}
