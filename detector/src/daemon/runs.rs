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
    /// VMs whose manager has let go of their files, and still calls them running.
    over: BTreeSet<Uuid>,
    /// VMs whose manager has announced their start, and so announces their end.
    announced: BTreeSet<Uuid>,
}

impl Runs {
    /// A VM begins to run anew: of the run before nothing is known any more.
    pub(super) fn forget(&mut self, uuid: Uuid) {
        if self.begun.remove(&uuid).is_some() {
            self.unseen.insert(uuid);
        }
        self.kept.remove(&uuid);
        self.over.remove(&uuid);
        self.announced.remove(&uuid);
    }

    /// A VM's manager asks before it starts it, and will say when it has let go of its files.
    pub(super) fn announce(&mut self, uuid: Uuid) {
        self.announced.insert(uuid);
    }

    pub(super) fn follow(&mut self, world: &World, decision: &Decision) -> Vec<Effect> {
        let mut effects = Vec::new();
        let running = vms(world).filter(|vm| vm.power != PowerState::Off);
        let running: BTreeSet<Uuid> = running.map(|vm| vm.uuid).collect();
        let listed: BTreeSet<Uuid> = vms(world).map(|vm| vm.uuid).collect();
        self.announced.retain(|uuid| listed.contains(uuid));
        self.over.retain(|uuid| running.contains(uuid));
        let followed = self.begun.keys().chain(&self.kept).copied();
        let off: BTreeSet<_> = followed.filter(|uuid| !running.contains(uuid)).collect();
        for uuid in off {
            let disks = self.end(world, uuid);
            // Of a word that was promised and has not come, nobody knows how late this one is.
            if !self.announced.remove(&uuid) && !disks.is_empty() {
                effects.push(Effect::Ends { disks, call: None });
            }
        }
        // Of what its manager has let go nothing begins before the next start.
        let running: BTreeSet<Uuid> = running.difference(&self.over).copied().collect();
        let kept = decision.ports.values().filter(|port| port.status == PortStatus::Kept);
        self.kept.extend(
            kept.filter_map(|port| port.vm)
                .filter(|uuid| running.contains(uuid) && !self.unseen.contains(uuid)),
        );
        self.unseen.retain(|uuid| running.contains(uuid));
        for vm in vms(world).filter(|vm| vm.power != PowerState::Off && running.contains(&vm.uuid))
        {
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

    /// A VM's manager has let go of its files. Which of them were its own until now.
    pub(super) fn released(&mut self, world: &World, uuid: Uuid) -> Vec<ImageFile> {
        if vms(world).any(|vm| vm.uuid == uuid && vm.power != PowerState::Off) {
            self.over.insert(uuid);
        }
        self.announced.remove(&uuid);
        self.end(world, uuid)
    }

    fn end(&mut self, world: &World, uuid: Uuid) -> Vec<ImageFile> {
        let mut ended = self.begun.remove(&uuid).unwrap_or_default();
        if self.kept.remove(&uuid) {
            let vms = vms(world).filter(|vm| vm.uuid == uuid);
            ended.extend(vms.flat_map(own).map(|(_, disk)| disk.clone()));
        }
        ended.into_iter().collect()
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
