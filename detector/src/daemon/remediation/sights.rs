//! What is to be seen of VMs that are remediated.

use detector_core::{
    decide,
    model::{
        Evidence, FindingKey, FindingKind, Medium, MediumRole, MediumSource, PowerState,
        Quarantine, QuarantineTarget, Subject,
    },
    remediate::{Means, Shown, Sight, SightedMedium, Ways, Workflow},
};
use uuid::Uuid;

use crate::{daemon::brain::Brain, enforcer::Enforcer};

/// What a [`Sight`] refers to.
#[derive(Debug)]
pub(in crate::daemon) struct Sighting {
    means: Means,
    pub(in crate::daemon) power: Option<PowerState>,
    unguarded: bool,
    quarantine: Option<Quarantine>,
    pub(in crate::daemon) media: Vec<SightedMedium>,
    pub(super) reading: bool,
    judged: Uuid,
    runs: bool,
}

impl<E: Enforcer> Brain<E> {
    pub(in crate::daemon) fn sighting(&self, workflow: &Workflow) -> Sighting {
        let vm = self.vm(workflow.vm).map(|(_, vm)| vm);
        let judged = workflow.successor.unwrap_or(workflow.vm);
        let target = QuarantineTarget::Vm(workflow.vm);
        let is_there = self.vm(judged).is_some_and(|(_, vm)| vm.power != PowerState::Off);
        Sighting {
            means: self.means(),
            power: vm.map(|vm| vm.power),
            unguarded: !workflow.is_over() && self.ways(workflow.vm).unguarded,
            quarantine: self.world.observed.quarantines.get(&target).cloned(),
            media: vm.map(|vm| self.sighted_media(&vm.media)).unwrap_or_default(),
            reading: self.vm(judged).is_some_and(|(_, vm)| self.media.reads(vm)),
            judged,
            runs: is_there,
        }
    }

    pub(in crate::daemon) fn sight<'a>(&'a self, of: &'a Sighting) -> Sight<'a> {
        Sight {
            now: self.world.now,
            means: &of.means,
            power: of.power,
            unguarded: of.unguarded,
            quarantine: of.quarantine.as_ref(),
            media: &of.media,
            reading: of.reading,
            verdict: self.decision.vms.get(&of.judged),
            runs: of.runs,
        }
    }

    /// How a VM reaches others, as its sources say, and as was found.
    pub(in crate::daemon) fn ways(&self, vm: Uuid) -> Ways {
        let key = FindingKey { kind: FindingKind::UnguardedAttachment, subject: Subject::Vm(vm) };
        let told = self.decision.findings.iter().any(|finding| finding.key == key);
        Ways::of(self.world.sources.values().filter_map(|source| source.vms.get(&vm)), told)
    }

    /// What this host has to remediate with, at present.
    pub(in crate::daemon) fn means(&self) -> Means {
        Means { sandbox: self.world.policy.sandbox.is_some(), ..self.remediation.means.clone() }
    }

    pub(in crate::daemon) fn sighted_media(&self, media: &[Medium]) -> Vec<SightedMedium> {
        let media = media.iter().filter(|medium| medium.role != MediumRole::Variables);
        media.map(|medium| self.sighted(medium)).collect()
    }

    fn sighted(&self, medium: &Medium) -> SightedMedium {
        let role = medium.role;
        let file = match &medium.source {
            MediumSource::Remote(what) => {
                let shown = Shown::Unreadable(format!("{what:?} cannot be read on this host"));
                return SightedMedium { role, path: what.into(), shown, own: false, known: false };
            }
            MediumSource::File(file) => file,
        };
        let path = file.path.clone();
        let disturbed = self.world.disturbed.get(file);
        let (shown, own, known) = match (self.world.evidence.get(file), disturbed) {
            (_, Some(why)) => (Shown::Unreadable(why.clone()), false, false),
            (None | Some(Evidence::Pending), _) => (Shown::Pending, false, false),
            (Some(Evidence::Unreadable(why)), _) => (Shown::Unreadable(why.clone()), false, false),
            (Some(Evidence::Chain(chain)), _) => {
                let written = matches!(role, MediumRole::Disk | MediumRole::Floppy);
                let own = written && chain.overlays.is_empty();
                let known = decide::is_image_in_force(&self.world, role, chain.digest);
                (Shown::Digest(chain.digest), own, known)
            }
        };
        SightedMedium { role, path, shown, own, known }
    }
}
