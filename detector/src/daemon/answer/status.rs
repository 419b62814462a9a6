use std::collections::BTreeMap;

use detector_common::{maps::SCHEMA_VERSION, port::Role};
use detector_core::model::Health;

use crate::{
    api::view::{ModeDetail, ModeView, SourceView, Status, moment, vm_status},
    daemon::brain::Brain,
    enforcer::Enforcer,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn status_view(&self) -> Status {
        let mut ports = BTreeMap::new();
        for port in self.port_views().into_iter().filter(|port| port.role == "guest") {
            *ports.entry(port.status.as_str().to_owned()).or_insert(0) += 1;
        }
        let mut vms = BTreeMap::new();
        for vm in self.decision.vms.values() {
            *vms.entry(vm_status(vm.status).to_owned()).or_insert(0) += 1;
        }
        let of_role = |role| {
            let interfaces = self.world.observed.interfaces.values();
            interfaces.filter(|interface| interface.slot.role() == role).count()
        };
        let taken = self.decision.mitigations.taken.keys();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: SCHEMA_VERSION,
            mode: self.mode().map_or(ModeView::None, ModeView::from),
            mode_detail: self.world.observed.mode.as_ref().map(ModeDetail::from),
            evidence: self.world.policy.evidence,
            started: moment(self.started),
            sources: self.source_views(),
            ports,
            vms,
            bridges: of_role(Role::Bridge),
            uplinks: of_role(Role::Uplink),
            quarantines: self.world.observed.quarantines.len(),
            held: self.decision.vms.values().filter(|vm| vm.guard.held().is_some()).count(),
            recently_cut_off: taken.filter(|uuid| self.decision.stray(**uuid).is_none()).count(),
            templates: self.world.registry.templates.len(),
            events: self.events,
            findings: self.finding_views(),
        }
    }

    fn source_views(&self) -> Vec<SourceView> {
        let view = |(name, source): (&String, &detector_core::model::Source)| {
            let (healthy, why, since) = match &source.health {
                Health::Healthy => (true, None, None),
                Health::Lost { since, why } => (false, Some(why.clone()), Some(moment(*since))),
            };
            let (vms, rejected) = (source.vms.len(), source.rejected.len());
            SourceView { name: name.clone(), healthy, why, since, vms, rejected }
        };
        self.world.sources.iter().map(view).collect()
    }
}
