//! Which VMs run with a disk or with firmware's variables of their own, from a verdict that approves it to the end of the VM: what
//! happens to the disk in between is the VM's doing.

use std::collections::{BTreeMap, BTreeSet};

use detector_core::{
    decide::{Decision, PortStatus, VmStatus},
    model::{Evidence, ImageFile, MediumRole, MediumSource, PowerState, Vm, World},
};
use uuid::Uuid;

use super::{input::Effect, media::vms};

#[derive(Debug, Default)]
pub(super) struct Runs {
    begun: BTreeMap<Uuid, BTreeSet<ImageFile>>,
    /// VMs that run without having been approved by this daemon, and keep what they have in force from
    /// before it began: the same run, for a tap that is made anew has nothing in force.
    kept: BTreeSet<Uuid>,
    /// VMs that have begun to run anew though nobody has seen them end.
    unseen: BTreeSet<Uuid>,
}

impl Runs {
    /// A VM begins to run anew: of the run before nothing is known any more.
    pub(super) fn forget(&mut self, uuid: Uuid) {
        if self.begun.remove(&uuid).is_some() {
            self.unseen.insert(uuid);
        }
        self.kept.remove(&uuid);
    }

    pub(super) fn follow(&mut self, world: &World, decision: &Decision) -> Vec<Effect> {
        let mut effects = Vec::new();
        let running = vms(world).filter(|vm| vm.power != PowerState::Off);
        let running: BTreeSet<Uuid> = running.map(|vm| vm.uuid).collect();
        let followed = self.begun.keys().chain(&self.kept).copied();
        let off: BTreeSet<_> = followed.filter(|uuid| !running.contains(uuid)).collect();
        for uuid in off {
            effects.extend(self.ended(world, uuid));
        }
        let kept = decision.ports.values().filter(|port| port.status == PortStatus::Kept);
        self.kept.extend(
            kept.filter_map(|port| port.vm)
                .filter(|uuid| running.contains(uuid) && !self.unseen.contains(uuid)),
        );
        self.unseen.retain(|uuid| running.contains(uuid));
        for vm in vms(world).filter(|vm| vm.power != PowerState::Off) {
            let status = decision.vms.get(&vm.uuid).map(|one| one.status);
            if status != Some(VmStatus::Approved) {
                continue;
            }
            for (role, disk) in own(vm) {
                let Some(Evidence::Chain(chain)) = world.evidence.get(disk) else { continue };
                let begun = self.begun.get(&vm.uuid).is_some_and(|disks| disks.contains(disk));
                if chain.overlays.is_empty() && !begun {
                    self.begun.entry(vm.uuid).or_default().insert(disk.clone());
                    let digest = chain.digest;
                    effects.push(Effect::Begins { role, disk: disk.clone(), digest });
                }
            }
        }
        effects
    }

    pub(super) fn ended(&mut self, world: &World, uuid: Uuid) -> Vec<Effect> {
        let mut ended = self.begun.remove(&uuid).unwrap_or_default();
        if self.kept.remove(&uuid) {
            let vms = vms(world).filter(|vm| vm.uuid == uuid);
            ended.extend(vms.flat_map(own).map(|(_, disk)| disk.clone()));
        }
        ended.into_iter().map(|disk| Effect::Ends { disk }).collect()
    }
}

/// What a VM writes to, if nobody else has it.
fn own(vm: &Vm) -> impl Iterator<Item = (MediumRole, &ImageFile)> {
    vm.media.iter().filter_map(|medium| match (&medium.source, medium.role) {
        (MediumSource::File(file), role @ (MediumRole::Disk | MediumRole::Variables)) => {
            Some((role, file))
        }
        _ => None,
    })
}
