use detector_common::addr::Mac;
use detector_core::{
    decide::VmStatus,
    model::{Evidence, Medium, MediumSource, Vm},
};

use crate::{
    api::view::{EvidenceView, MediumView, NicView, PortState, VmView, moment},
    daemon::brain::Brain,
    enforcer::Enforcer,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn vm_views(&self) -> Vec<VmView> {
        let mut views: Vec<VmView> = Vec::new();
        for uuid in self.decision.vms.keys() {
            if let Some((source, vm)) = self.vm(*uuid) {
                views.push(self.vm_view(source, vm, false));
            }
        }
        views.sort_by(|a, b| (&a.name, a.uuid).cmp(&(&b.name, b.uuid)));
        views
    }

    /// A VM; in full with its requirements and media.
    pub(super) fn vm_view(&self, source: &str, vm: &Vm, full: bool) -> VmView {
        let decision = self.decision.vms.get(&vm.uuid);
        VmView {
            uuid: vm.uuid,
            name: vm.name.clone(),
            source: source.to_owned(),
            power: vm.power,
            status: decision.map_or(VmStatus::Pending, |decision| decision.status),
            since: self.since.vm(vm.uuid).map(moment),
            template: decision.and_then(|decision| decision.template.clone()),
            template_version: decision.and_then(|decision| decision.template_version.clone()),
            nics: vm
                .nics
                .iter()
                .map(|nic| NicView {
                    mac: nic.mac.to_string(),
                    port: nic.port.clone(),
                    status: nic.port.as_deref().and_then(|port| self.status_of_port(port)),
                    addresses: nic.addresses.iter().map(ToString::to_string).collect(),
                    learned: self.learned_by(nic.mac),
                })
                .collect(),
            requirements: decision
                .filter(|_| full)
                .map_or_else(Vec::new, |decision| decision.requirements.clone()),
            rules: decision
                .filter(|_| full)
                .map_or_else(Vec::new, |decision| decision.rules.clone()),
            media: if full {
                vm.media.iter().map(|medium| self.medium_view(medium)).collect()
            } else {
                Vec::new()
            },
            held: self.held_view(vm.uuid),
            posture: full.then(|| vm.posture.clone()),
            guest: self.world.guests.get(&vm.uuid).filter(|_| full).cloned(),
        }
    }

    /// The addresses that a NIC has learned, as far as they have been read.
    fn learned_by(&self, mac: Mac) -> Vec<String> {
        let learned = self.world.learned.values().flatten();
        learned.filter(|one| one.mac == mac).map(|one| one.address.to_string()).collect()
    }

    fn status_of_port(&self, name: &str) -> Option<PortState> {
        let link = self.world.links.values().find(|link| link.name == name)?;
        Some(self.decision.ports.get(&link.ifindex)?.status.into())
    }

    fn medium_view(&self, medium: &Medium) -> MediumView {
        let (source, evidence) = match &medium.source {
            MediumSource::Remote(what) => (what.clone(), EvidenceView::Remote),
            MediumSource::File(file) => {
                let evidence = match self.world.evidence.get(file) {
                    None | Some(Evidence::Pending) => EvidenceView::Pending,
                    Some(Evidence::Unreadable(why)) => EvidenceView::Unreadable(why.clone()),
                    Some(Evidence::Chain(chain)) => EvidenceView::Chain {
                        layers: chain
                            .overlays
                            .iter()
                            .chain([&chain.base])
                            .map(|layer| format!("{} ({})", layer.path.display(), layer.format))
                            .collect(),
                        sha256: chain.digest.to_string(),
                        at_birth: chain.at_birth,
                    },
                };
                (file.path.display().to_string(), evidence)
            }
        };
        let snapshot_of = match &medium.source {
            MediumSource::File(file) => {
                file.origin.as_ref().map(|of| of.path.display().to_string())
            }
            MediumSource::Remote(_) => None,
        };
        MediumView { role: medium.role, source, evidence, snapshot_of }
    }
}
