use detector_core::{decide::ProcessOwner, model::VmProcess};

use crate::{
    api::{
        ApiError, ErrorCode,
        view::{ProcessView, VmRef, moment},
    },
    daemon::brain::Brain,
    enforcer::Enforcer,
    suggest::did_you_mean,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn process_views(&self) -> Vec<ProcessView> {
        self.world.processes.found.values().map(|process| self.process_view(process)).collect()
    }

    /// The process of that number, or the one that is the VM of that name or UUID, by an inventory's word or
    /// by its own.
    pub(super) fn process_named(&self, name: &str) -> Result<ProcessView, ApiError> {
        let found: Vec<_> = match name.parse::<u32>() {
            Ok(pid) => self.processes(|process| process.id.pid == pid),
            Err(_) => match self.vm_named(name) {
                Ok((_, vm)) => {
                    let is_it = Some(&ProcessOwner::Vm(vm.uuid));
                    self.processes(|process| self.decision.processes.get(&process.id) == is_it)
                }
                Err(error) if error.code == ErrorCode::Ambiguous => return Err(error),
                Err(_) => self.processes(|process| says(process, name)),
            },
        };
        match found.as_slice() {
            [] => {
                let names = self.world.processes.found.values();
                let names = names.filter_map(|process| process.says.name.as_deref());
                let close = did_you_mean(name, self.vm_names().chain(names));
                let message = format!(
                    "process {name:?} is no VM as far as the last scan saw{close}; detector process list \
                     shows those that are"
                );
                Err(ApiError::new(ErrorCode::NotFound, message))
            }
            [one] => Ok(self.process_view(one)),
            several => {
                let pids: Vec<_> = several.iter().map(|one| one.id.pid.to_string()).collect();
                let message =
                    format!("several processes are {name:?}; say which: {}", pids.join(", "));
                Err(ApiError::new(ErrorCode::Ambiguous, message))
            }
        }
    }

    fn processes(&self, wanted: impl Fn(&VmProcess) -> bool) -> Vec<&VmProcess> {
        self.world.processes.found.values().filter(|process| wanted(process)).collect()
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
        let curbed = self.world.processes.curbed.get(&process.id).cloned();
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
            curbed,
        }
    }
}

/// Whether the process calls itself so.
fn says(process: &VmProcess, name: &str) -> bool {
    let uuid = process.says.uuid.map(|uuid| uuid.to_string());
    [process.says.name.as_deref(), uuid.as_deref()].contains(&Some(name))
}
