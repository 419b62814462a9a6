use detector_core::{decide::ProcessOwner, model::VmProcess};

use crate::{
    api::{
        ApiError, ErrorCode,
        view::{ProcessView, VmRef, moment},
    },
    daemon::brain::Brain,
    enforcer::Enforcer,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn process_views(&self) -> Vec<ProcessView> {
        self.world.processes.found.values().map(|process| self.process_view(process)).collect()
    }

    pub(super) fn process_of(&self, pid: u32) -> Result<ProcessView, ApiError> {
        let mut found = self.world.processes.found.values();
        let found = found.find(|process| process.id.pid == pid);
        found.map(|process| self.process_view(process)).ok_or_else(|| {
            let message = format!(
                "process {pid} is no VM as far as the last scan saw; detector process list shows \
                 those that are"
            );
            ApiError::new(ErrorCode::NotFound, message)
        })
    }

    fn process_view(&self, process: &VmProcess) -> ProcessView {
        let owner = self.decision.processes.get(&process.id);
        let (status, vm) = match owner {
            Some(ProcessOwner::Vm(uuid)) => {
                let vm = self.vm(*uuid).map(|(_, vm)| VmRef { uuid: *uuid, name: vm.name.clone() });
                ("vm", vm)
            }
            Some(ProcessOwner::Unsettled) => ("unsettled", None),
            Some(ProcessOwner::Nobody) | None => ("unknown", None),
        };
        let process = process.clone();
        ProcessView {
            pid: process.id.pid,
            vm,
            status: status.to_owned(),
            runs_vm: process.is_vm(),
            uid: process.uid,
            user: process.user,
            started: moment(process.started),
            exe: process.exe,
            command: process.command,
            program: process.program,
            obscure: process.obscure,
            holds: process.holds,
            attachments: process.attachments,
            says: process.says,
            network: process.network,
            network_is_hosts: process.network_is_hosts,
            cgroup: process.cgroup,
        }
    }
}
