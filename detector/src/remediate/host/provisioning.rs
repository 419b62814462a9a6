//! Has a provisioner change a VM, which runs meanwhile where it is configured so.

use std::{net::IpAddr, sync::atomic::AtomicBool};

use uuid::Uuid;

use super::{HostHands, OFF, case};
use crate::remediate::{
    evidence::{DiskEvidence, Evidence},
    hands::{Done, Failed, Patient},
    provision::{
        self, Disk, Ended, Outcome, Request, Subject,
        offline::{self, Limits, Where},
    },
    storage::{self, Named, PATIENCE, Role, Session, StorageError, Tell, shut_off, switch_on},
};

/// Characters of the end of what a provisioner has printed that are kept with the workflow.
const END_OF_OUTPUT: usize = 300;

impl HostHands {
    pub(super) fn provision(
        &self,
        patient: &Patient,
        (name, addresses): (&str, &[IpAddr]),
        stop: &AtomicBool,
        tell: &Tell,
    ) -> Result<Done, Failed> {
        let keys = self.keys.provisioner(name).ok_or_else(|| {
            Failed::Refused(format!("remediation.provisioners lists none called {name:?}"))
        })?;
        let vm = Subject { uuid: patient.uuid, name: patient.name.clone() };
        let mut files = disks(&patient.source, patient.uuid, tell)?;
        match Evidence::new(&self.state).find(&case(patient, OFF)) {
            Some(Ok(kept)) => add_digests(&mut files, &kept.manifest.disks),
            Some(Err(error)) => {
                tracing::warn!(%error, "remediation: digests of disks are not known");
            }
            None => {}
        }
        let workflow = format!("{}-{}", patient.uuid, patient.workflow);
        let addresses = addresses.iter().map(IpAddr::to_string).collect();
        let request = Request { addresses, ..Request::new(&workflow, vm, files) };
        if let Some(work) = &keys.offline {
            let pool = self.pool().map_err(Failed::Refused)?;
            let at = Where { uri: &patient.source, pool: &pool };
            let limits = Limits { timeout: keys.timeout, keep: keys.output_kib << 10 };
            let ended = offline::run(&at, request, work, &limits, stop, tell)?;
            return result_of(name, ended);
        }
        if keys.runs_vm() {
            switch_on(&patient.source, patient.uuid, tell)?;
        }
        let ended =
            provision::run(&keys.program(), request, &self.state, stop, |said| tell(said.into()));
        let ended = ended.map_err(|error| Failed::Refused(error.to_string()));
        let result = ended.and_then(|ended| result_of(name, ended));
        if !keys.runs_vm() {
            return result;
        }
        // What becomes of it is judged by what it leaves on its disks: whoever was told to stop leaves it off, too.
        let (grace, force) = (self.keys.shutdown_grace, self.keys.force);
        let go_on = AtomicBool::new(false);
        let off = shut_off(&patient.source, patient.uuid, grace, force, &go_on, tell);
        and_off(result, off.map(drop))
    }
}

/// What a provisioner has come to.
fn result_of(name: &str, ended: Ended) -> Result<Done, Failed> {
    let output = end_of(&ended.output);
    match ended.outcome {
        Outcome::Done { message, changed } => {
            let changed = match changed {
                Some(true) => "it says that it has changed something",
                Some(false) => "it says that it has changed nothing",
                None => "it is done",
            };
            let says = format!("{name}: {changed}. {message}");
            let more = [
                ("output", output),
                ("printed", ended.printed.to_string()),
                ("left-behind", ended.strays.to_string()),
            ];
            let more = more.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Ok(Done { says: says.trim().to_owned(), more, successor: None })
        }
        Outcome::GivenUp => Err(Failed::Stopped),
        Outcome::Failed { why } | Outcome::Later { why } | Outcome::Late { why } => {
            let printed = match &output[..] {
                "" => String::new(),
                output => format!(". It has printed: {output}"),
            };
            Err(Failed::Refused(format!("the provisioner {name}: {why}{printed}")))
        }
    }
}

/// What has come of a provisioner whose VM was to be off again afterwards.
fn and_off(result: Result<Done, Failed>, off: Result<(), StorageError>) -> Result<Done, Failed> {
    let Err(why) = off else { return result };
    let came = match result {
        Ok(done) => done.says,
        Err(failed) => failed.to_string(),
    };
    Err(Failed::Refused(format!(
        "the VM runs on, because it is not shut down: {why}. Before that: {came}"
    )))
}

/// The disks of a domain that are files.
fn disks(uri: &str, vm: Uuid, tell: &Tell) -> Result<Vec<Disk>, StorageError> {
    let session = Session::open(uri, PATIENCE, tell)?;
    let gone = || StorageError::Refused(format!("libvirt knows no domain {vm}"));
    let found = session.look(vm)?.ok_or_else(gone)?;
    let described = storage::describe(&found.described).map_err(StorageError::Refused)?;
    let mut disks = Vec::new();
    for own in described.own.into_iter().filter(|own| own.role == Role::Disk) {
        let path = match &own.source {
            Named::File(path) => path.clone(),
            Named::Volume { pool, volume } => session.place_of(pool, volume)?,
        };
        disks.push(Disk { target: own.target, path, format: own.format, sha256: None });
    }
    Ok(disks)
}

/// What is known of the same files from when the VM was off.
fn add_digests(disks: &mut [Disk], known: &[DiskEvidence]) {
    for disk in disks {
        let path = storage::shown(&disk.path);
        let same = known.iter().find(|one| one.target == disk.target && one.path == path);
        disk.sha256 = same.and_then(|one| one.sha256);
    }
}

/// The last lines of what a provisioner has printed, in one.
fn end_of(output: &str) -> String {
    const LINES: usize = 5;
    let full = output.lines().rev().filter(|line| !line.trim().is_empty());
    let mut lines: Vec<_> = full.take(LINES).collect();
    lines.reverse();
    let line = lines.join(" | ");
    match line.char_indices().rev().nth(END_OF_OUTPUT - 1) {
        Some((start, _)) if start > 0 => format!("…{}", &line[start..]),
        _ => line,
    }
}

#[cfg(test)]
mod tests;
