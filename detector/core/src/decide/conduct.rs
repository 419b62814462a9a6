//! What VMs do, as far as findings say so: the next decision may rest on it. What others can do to a VM is held against
//! nobody, or who wants one cut off would do that.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    Decision,
    findings::{Speaker, has_another_medium, is_its_own_flood},
};
use crate::model::{FindingKey, FindingKind, Subject, World};

impl Decision {
    /// The kinds of finding that tell of each VM's own conduct.
    pub fn conduct(&self, world: &World) -> BTreeMap<Uuid, BTreeSet<FindingKind>> {
        let mut conduct = BTreeMap::<_, BTreeSet<_>>::new();
        let keys = self.findings.iter().map(|finding| &finding.key);
        for key in keys.filter(|key| FindingKind::OF_CONDUCT.contains(&key.kind)) {
            let vm = match &key.subject {
                Subject::Vm(uuid) => Some(*uuid),
                Subject::Port { ifindex, .. } => self.ports.get(ifindex).and_then(|port| port.vm),
                _ => None,
            };
            if let Some(vm) = vm.filter(|vm| self.is_its_doing(key, *vm, world)) {
                conduct.entry(vm).or_default().insert(key.kind);
            }
        }
        conduct
    }

    fn is_its_doing(&self, key: &FindingKey, vm: Uuid, world: &World) -> bool {
        let speaker = || match key.subject {
            Subject::Port { ifindex, .. } => Speaker::new(ifindex, world, self),
            _ => None,
        };
        match key.kind {
            // An address is its who came first, and anybody may.
            FindingKind::AddressConflict => speaker().is_some_and(|one| one.claims_protected()),
            // With fewer it is the host's table that is full, with what others have.
            FindingKind::LearnedFull => speaker().is_some_and(|one| one.has_filled_its_places()),
            FindingKind::Flood => speaker().is_some_and(|one| is_its_own_flood(&one)),
            // Losing what could be read changes nothing.
            FindingKind::MediumChanged => {
                let mut said = world.sources.values().filter_map(|source| source.vms.get(&vm));
                said.any(|vm| has_another_medium(vm, world))
            }
            _ => true,
        }
    }
}
