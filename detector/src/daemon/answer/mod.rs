//! Answers to operators, from the world and the decision as they stand.

mod clock;
mod explain;
mod finding;
mod metrics;
mod mitigation;
mod name;
pub(super) mod policy;
mod port;
mod preview;
mod process;
pub(super) mod quarantine;
mod remediate;
mod status;
mod template;
mod vm;

pub(super) use explain::open;
pub(super) use name::operand;

use detector_core::model::{Timestamp, Vm};
use uuid::Uuid;

use super::{
    brain::Brain,
    input::{CallId, Effect},
};
use crate::{
    api::{ApiError, ErrorCode, Reply, Request, view::ModeDetail},
    enforcer::Enforcer,
    suggest::did_you_mean,
};

/// Answers a request of the user `uid`.
pub(super) fn request<E: Enforcer>(brain: &mut Brain<E>, id: CallId, uid: u32, request: Request) {
    let mut last = true;
    let reply = match request {
        Request::RemediatePlan { .. }
        | Request::RemediateStart { .. }
        | Request::RemediateStatus { .. }
        | Request::RemediateApprove { .. }
        | Request::RemediateAbort { .. }
        | Request::RemediateReject { .. } => return remediate::request(brain, id, uid, request),
        Request::MitigationApprove { vms, all, reason } => {
            let wish = mitigation::Wish { vms, all, approves: true, reason };
            return mitigation::say(brain, id, uid, wish);
        }
        Request::MitigationReject { vms, all, reason } => {
            let wish = mitigation::Wish { vms, all, approves: false, reason };
            return mitigation::say(brain, id, uid, wish);
        }
        Request::MitigationList {} => Ok(brain.mitigation_list()),
        Request::Status {} => Ok(Reply::Status(Box::new(brain.status_view()))),
        Request::PortList { counters } => {
            let mut ports = brain.port_views();
            if counters {
                brain.add_counters(&mut ports);
            }
            Ok(Reply::Ports(ports))
        }
        Request::PortShow { name } => {
            brain.port_named(&name).map(|port| Reply::Port(Box::new(port)))
        }
        Request::VmList {} => Ok(Reply::Vms(brain.vm_views())),
        Request::VmShow { name } => {
            brain.read_learned();
            brain
                .vm_named(&name)
                .map(|(source, vm)| Reply::Vm(Box::new(brain.vm_view(source, vm, true))))
        }
        Request::QuarantineList {} => Ok(Reply::Quarantines(brain.quarantine_views())),
        Request::QuarantineShow { target } => brain
            .quarantine_of(&target)
            .map(|found| Reply::Quarantine(brain.quarantine_view(found))),
        Request::QuarantineAdd { target, reason, mode } => {
            brain.impose(&target, &reason, mode, uid).map(Reply::Quarantine)
        }
        Request::QuarantineRelease { target, .. } => brain.release(&target).map(Reply::Released),
        Request::QuarantineWatch {} => {
            last = false;
            brain.watchers.insert(id);
            Ok(Reply::Quarantines(brain.quarantine_views()))
        }
        Request::ModeChange { change, reason } => {
            brain.change_mode(change, &reason, uid).map(|mode| Reply::Mode(ModeDetail::from(mode)))
        }
        Request::EnforcePreview {} => Ok(Reply::Preview(Box::new(brain.preview()))),
        Request::ClockShow {} => Ok(Reply::Clock(Box::new(brain.clock_view()))),
        Request::ClockConfirm { says, reason } => brain
            .confirm_clock(Timestamp(says), &reason, uid)
            .map(|clock| Reply::Clock(Box::new(clock))),
        Request::TemplateList {} => Ok(Reply::Templates(brain.template_views())),
        Request::TemplateShow { id } => {
            brain.template_named(&id).map(|template| Reply::Template(Box::new(template)))
        }
        Request::FindingList {} => Ok(Reply::Findings(brain.finding_views())),
        Request::FindingShow { id } => {
            brain.finding_named(&id).map(|finding| Reply::Finding(Box::new(finding)))
        }
        Request::ProcessList {} => Ok(Reply::Processes(brain.process_views())),
        Request::ProcessShow { process } => {
            brain.process_named(&process).map(|process| Reply::Process(Box::new(process)))
        }
        Request::Explain { subject } => {
            brain.explain(&subject).map(|explanation| Reply::Explanation(Box::new(explanation)))
        }
        Request::Metrics {} => Ok(Reply::Metrics(Box::new(brain.metrics_view()))),
        Request::PolicyShow {} => Ok(Reply::Policy(Box::new(brain.policy_view()))),
        // The admission task hands these in with what it has read for them, and those about alerts are
        // for who has them.
        Request::Admit { .. }
        | Request::PolicyDiff { .. }
        | Request::Reload {}
        | Request::FindingAck { .. }
        | Request::FindingSuppress { .. }
        | Request::FindingUnsuppress { .. }
        | Request::AlertStatus {}
        | Request::AlertList {}
        | Request::AlertTest { .. } => {
            Err(ApiError::new(ErrorCode::BadRequest, "not for the brain"))
        }
    };
    brain.emit(Effect::Reply { id, reply, last });
}

impl<E: Enforcer> Brain<E> {
    /// The VM, as the first source that lists it describes it, and the name of that source.
    pub(super) fn vm(&self, uuid: Uuid) -> Option<(&str, &Vm)> {
        self.world
            .sources
            .iter()
            .find_map(|(name, source)| Some((name.as_str(), source.vms.get(&uuid)?)))
    }

    /// The VM of that name or UUID.
    fn vm_named(&self, name: &str) -> Result<(&str, &Vm), ApiError> {
        let found = self.vms_named(name);
        match found.as_slice() {
            [] => {
                let close = did_you_mean(name, self.vm_names());
                let message =
                    format!("no VM {name:?} in any inventory{close}; detector vm list shows all");
                Err(ApiError::new(ErrorCode::NotFound, message))
            }
            [one] => Ok(*one),
            several => {
                let uuids: Vec<_> = several.iter().map(|(_, vm)| vm.uuid.to_string()).collect();
                Err(ApiError::new(
                    ErrorCode::Ambiguous,
                    format!("several VMs are called {name:?}; say which: {}", uuids.join(", ")),
                ))
            }
        }
    }

    fn vm_names(&self) -> impl Iterator<Item = &str> {
        self.world.sources.values().flat_map(|said| said.vms.values()).map(|vm| vm.name.as_str())
    }

    fn vms_named(&self, name: &str) -> Vec<(&str, &Vm)> {
        if let Ok(uuid) = name.parse::<Uuid>()
            && let Some(found) = self.vm(uuid)
        {
            return vec![found];
        }
        let mut found: Vec<(&str, &Vm)> = Vec::new();
        for (source, said) in &self.world.sources {
            for vm in said.vms.values().filter(|vm| vm.name == name) {
                if !found.iter().any(|(_, known)| known.uuid == vm.uuid) {
                    found.push((source, vm));
                }
            }
        }
        found
    }
}
