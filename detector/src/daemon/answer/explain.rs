use detector_common::{addr::Mac, quarantine::Cause};
use detector_core::{
    decide::{Outcome, Requirement},
    model::{FindingKind, QuarantineTarget, Subject},
};
use uuid::Uuid;

use super::operand;
use crate::{
    api::{
        ApiError, ErrorCode,
        kernel::cause_name,
        view::{Explanation, FindingView, PortView, QuarantineView, Remedy, VmView, vm_status},
    },
    daemon::brain::Brain,
    enforcer::Enforcer,
    suggest::did_you_mean,
};

impl<E: Enforcer> Brain<E> {
    /// Everything about one VM, port or MAC.
    pub(super) fn explain(&mut self, subject: &str) -> Result<Explanation, ApiError> {
        self.refresh_seen();
        let mut explanation = self.explanation(subject)?;
        self.add_counters(&mut explanation.ports);
        Ok(explanation)
    }

    fn explanation(&self, subject: &str) -> Result<Explanation, ApiError> {
        if let Ok(mac) = subject.parse::<Mac>() {
            return self.explain_mac(mac);
        }
        if !self.vms_named(subject).is_empty() {
            let (source, vm) = self.vm_named(subject)?;
            return Ok(self.explain_vm(subject, self.vm_view(source, vm, true)));
        }
        if let Ok(ifindex) = self.ifindex_of(subject) {
            return Ok(self.explain_port(subject, ifindex));
        }
        let close = did_you_mean(subject, self.vm_names().chain(self.port_names()));
        let message = format!(
            "{subject:?} is no VM, port or MAC that is known here{close}; detector vm list and detector \
             port list show what is"
        );
        Err(ApiError::new(ErrorCode::NotFound, message))
    }

    fn explain_vm(&self, subject: &str, vm: VmView) -> Explanation {
        let ports: Vec<_> = self
            .decision
            .ports
            .iter()
            .filter(|(_, port)| port.vm == Some(vm.uuid))
            .map(|(ifindex, _)| self.port_in_full(*ifindex))
            .collect();
        let quarantines =
            self.quarantines_on(Some(vm.uuid), &ports, vm.nics.iter().map(|n| &n.mac));
        let failing = open(&vm.requirements);
        let status = vm_status(vm.status).to_owned();
        let mut summary = match (failing.as_slice(), quarantines.first()) {
            ([], Some(quarantine)) => format!("Quarantined: {}", quarantine.note),
            ([], None) => ports.iter().find_map(|port| port.why.clone()).unwrap_or_else(|| {
                format!("The VM is {status}; no port of it is on a guarded bridge.")
            }),
            (failing, _) => {
                failing.iter().map(|r| r.finding.as_str()).collect::<Vec<_>>().join(" ")
            }
        };
        if let Some(held) = &vm.held {
            let because = match &held.rejected {
                Some(word) => format!("uid {} leaves it so: {}", word.uid, word.reason),
                None => "too many would lose it without a person".to_owned(),
            };
            summary.push_str(&format!(" It keeps what it has, because {because}."));
        }
        let findings = self.findings_on(Some(vm.uuid), &ports);
        let remedies = self.remedies(Some(&vm), &quarantines);
        Explanation {
            subject: subject.to_owned(),
            kind: "vm".to_owned(),
            status,
            summary,
            since: vm.since,
            vm: Some(vm),
            ports,
            quarantines,
            findings,
            remedies,
        }
    }

    fn explain_port(&self, subject: &str, ifindex: u32) -> Explanation {
        let port = self.port_in_full(ifindex);
        let vm = port
            .vm
            .as_ref()
            .and_then(|vm| self.vm(vm.uuid))
            .map(|(source, vm)| self.vm_view(source, vm, true));
        let uuid = vm.as_ref().map(|vm| vm.uuid);
        let status = port.status.as_str().to_owned();
        let summary = port
            .why
            .clone()
            .unwrap_or_else(|| format!("This is no guest port: its role is {}.", port.role));
        let since = port.since;
        let ports = vec![port];
        let macs = vm.iter().flat_map(|vm| &vm.nics).map(|nic| &nic.mac);
        let quarantines = self.quarantines_on(uuid, &ports, macs);
        let findings = self.findings_on(uuid, &ports);
        let mut remedies = self.remedies(vm.as_ref(), &quarantines);
        if vm.is_none() && ports.iter().any(|port| port.role == "guest") {
            remedies.push(Remedy {
                what:
                    "No inventory lists a VM with this port: enter it into the static inventory, \
                       or remove the interface."
                        .to_owned(),
                command: None,
            });
        }
        Explanation {
            subject: subject.to_owned(),
            kind: "port".to_owned(),
            status,
            summary,
            since,
            vm,
            ports,
            quarantines,
            findings,
            remedies,
        }
    }

    fn explain_mac(&self, mac: Mac) -> Result<Explanation, ApiError> {
        let text = mac.to_string();
        let owners: Vec<Uuid> = self
            .decision
            .vms
            .keys()
            .filter(|uuid| {
                self.vm(**uuid).is_some_and(|(_, vm)| vm.nics.iter().any(|nic| nic.mac == mac))
            })
            .copied()
            .collect();
        let claimed = |ifindex: &u32| {
            let seen = self.world.seen.get(ifindex).into_iter().flatten();
            seen.into_iter().any(|seen| seen.claim.mac == mac)
        };
        let ports: Vec<_> = self
            .decision
            .desired
            .interfaces
            .keys()
            .map(|ifindex| self.port_in_full(*ifindex))
            .filter(|port| {
                port.identities.iter().any(|identity| identity.mac == text)
                    || claimed(&port.ifindex)
            })
            .collect();
        let quarantines = self.quarantines_on(owners.first().copied(), &ports, [&text].into_iter());
        if owners.is_empty() && ports.is_empty() && quarantines.is_empty() {
            let message = format!("{mac} belongs to no VM, and no port has claimed it");
            return Err(ApiError::new(ErrorCode::NotFound, message));
        }
        let vm = owners
            .first()
            .and_then(|uuid| self.vm(*uuid))
            .map(|(source, vm)| self.vm_view(source, vm, true));
        let granted: Vec<_> = ports
            .iter()
            .filter(|port| port.identities.iter().any(|identity| identity.mac == text))
            .map(|port| port.name.as_str())
            .collect();
        let status = match (granted.is_empty(), quarantines.is_empty()) {
            (_, false) => "quarantined",
            (false, true) => "granted",
            (true, true) => "not-granted",
        };
        let owner = vm.as_ref().map_or("no VM".to_owned(), |vm| format!("the VM {}", vm.name));
        let place = if granted.is_empty() {
            "is granted to no port".to_owned()
        } else {
            format!("is granted to {}", granted.join(", "))
        };
        let summary = format!("The MAC belongs to {owner} and {place}.");
        let findings = self.findings_on(vm.as_ref().map(|vm| vm.uuid), &ports);
        let remedies = self.remedies(vm.as_ref(), &quarantines);
        Ok(Explanation {
            subject: text,
            kind: "mac".to_owned(),
            status: status.to_owned(),
            summary,
            since: None,
            vm,
            ports,
            quarantines,
            findings,
            remedies,
        })
    }

    fn quarantines_on<'a>(
        &self,
        vm: Option<Uuid>,
        ports: &[PortView],
        macs: impl Iterator<Item = &'a String>,
    ) -> Vec<QuarantineView> {
        let macs: Vec<_> = macs.collect();
        let concerns = |target: &QuarantineTarget| match target {
            QuarantineTarget::Vm(uuid) => Some(*uuid) == vm,
            QuarantineTarget::Mac(mac) => macs.contains(&&mac.to_string()),
            QuarantineTarget::Port { ifindex, instance } => {
                ports.iter().any(|port| (port.ifindex, port.instance) == (*ifindex, *instance))
            }
        };
        let in_force = self.world.observed.quarantines.values();
        in_force.filter(|q| concerns(&q.target)).map(|q| self.quarantine_view(q)).collect()
    }

    fn findings_on(&self, vm: Option<Uuid>, ports: &[PortView]) -> Vec<FindingView> {
        let of_any_life = |kind| {
            matches!(kind, FindingKind::EnforcementFailed | FindingKind::EnforcementImpaired)
        };
        let concerns = |subject: &Subject, kind: FindingKind| match subject {
            Subject::Vm(uuid) => Some(*uuid) == vm,
            Subject::Port { ifindex, instance } => ports.iter().any(|port| {
                port.ifindex == *ifindex && (port.instance == *instance || of_any_life(kind))
            }),
            _ => false,
        };
        let open = self.findings.open().into_iter();
        open.filter(|f| concerns(&f.key.subject, f.key.kind))
            .map(|finding| self.finding_view(finding))
            .collect()
    }

    /// What would let it back, in the order in which to do it.
    fn remedies(&self, vm: Option<&VmView>, quarantines: &[QuarantineView]) -> Vec<Remedy> {
        let mut remedies: Vec<Remedy> = Vec::new();
        for requirement in vm.iter().flat_map(|vm| open(&vm.requirements)) {
            let what = requirement.remedy.clone();
            if !what.is_empty() && !remedies.iter().any(|known| known.what == what) {
                remedies.push(Remedy { what, command: None });
            }
        }
        if let Some(held) = vm.and_then(|vm| vm.held.as_ref()) {
            remedies.push(Remedy {
                what: "It is held: have it cut off, or say that it stays as it is (`reject`)."
                    .to_owned(),
                command: Some(format!(
                    "detector mitigation approve {} --reason '…'",
                    operand(&held.vm.name, held.vm.uuid)
                )),
            });
        }
        for quarantine in quarantines {
            let target = match &quarantine.target {
                QuarantineTarget::Vm(uuid) => format!("vm {}", operand(&quarantine.name, *uuid)),
                QuarantineTarget::Mac(mac) => format!("mac {mac}"),
                QuarantineTarget::Port { ifindex, instance } => {
                    format!("port {ifindex}/{instance}")
                }
            };
            let by_verdict = quarantine.cause == cause_name(Cause::Verdict);
            let what = if by_verdict {
                "Once every requirement is met, lift the quarantine."
            } else {
                "An operator imposed a quarantine: lift it."
            };
            remedies.push(Remedy {
                what: what.to_owned(),
                command: Some(format!("detector quarantine release {target}")),
            });
        }
        remedies
    }
}

/// The requirements that fail; where none does, those of which nothing can be said yet. What is
/// unknown beside a failure usually follows from it.
pub(in crate::daemon) fn open(requirements: &[Requirement]) -> Vec<&Requirement> {
    let of = |outcome| requirements.iter().filter(move |r| r.outcome == outcome);
    let failed: Vec<_> = of(Outcome::Failed).collect();
    if failed.is_empty() {
        of(Outcome::Unknown).filter(|r| !r.remedy.is_empty()).collect()
    } else {
        failed
    }
}
