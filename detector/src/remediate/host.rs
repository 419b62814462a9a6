//! The hands that this host has: libvirt, its storage pools, and provisioners.

mod provisioning;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use detector_core::{
    model::{Digest, MediumRole},
    remediate::Deed,
};
use jiff::Timestamp;

use super::{
    contain::{Contained, contain},
    evidence::{self, Evidence},
    hands::{Done, Failed, Hands, Hear, Order, Patient, Progress, TemplateImage},
    replace::{Replacement, Replacer, TemplateFile},
    storage::{self, Mover, Off, StorageError, Task, Tell, shut_off},
};
use crate::config::{Config, RemediationKeys};

/// How often whoever hears is asked whether it shall go on, also where there is nothing to hear.
const LOOK: Duration = Duration::from_millis(200);

/// What is kept of a VM as it was found, and as it was when it was off.
const FOUND: &str = "found";
const OFF: &str = "off";

/// What they go by.
#[derive(Clone, Debug)]
pub(crate) struct HostHands {
    keys: RemediationKeys,
    state: PathBuf,
    image_dirs: Vec<PathBuf>,
    /// The libvirts of this host: nothing is done by any other.
    uris: Vec<String>,
}

impl HostHands {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            keys: config.remediation.clone(),
            state: config.paths.state.clone(),
            image_dirs: config.registry.image_dirs.clone(),
            uris: config.libvirt.uris().to_vec(),
        }
    }

    fn pool(&self) -> Result<String, String> {
        self.keys.pool.clone().ok_or_else(|| {
            "remediation.pool names no storage pool that disks could be moved to".to_owned()
        })
    }

    fn task(&self, patient: &Patient) -> Result<Task, Failed> {
        let pool = self.pool().map_err(Failed::Refused)?;
        Ok(Task { uri: patient.source.clone(), domain: patient.uuid, pool })
    }

    fn mover(&self, stop: &Arc<AtomicBool>) -> Mover {
        Mover::new(&self.state, &self.image_dirs, Arc::clone(stop))
    }
}

impl Hands for HostHands {
    fn can(&self, deed: Deed) -> Result<(), String> {
        if self.uris.is_empty() {
            return Err("no libvirt is followed, and nothing else manages VMs here".to_owned());
        }
        match deed {
            Deed::Evidence | Deed::Contain | Deed::Replace => Ok(()),
            Deed::Move => self.pool().map(drop),
            Deed::Provision if self.keys.provisioners.is_empty() => {
                Err("remediation.provisioners lists none".to_owned())
            }
            Deed::Provision => Ok(()),
        }
    }

    fn carry_out(
        &self,
        patient: &Patient,
        order: &Order,
        hear: &mut Hear<'_>,
    ) -> Result<Done, Failed> {
        self.can(order.deed()).map_err(Failed::Refused)?;
        if !self.uris.contains(&patient.source) {
            return Err(Failed::Refused(format!(
                "{:?}, which lists the VM, is no libvirt of this host's",
                patient.source
            )));
        }
        let stop = Arc::new(AtomicBool::new(false));
        // What hears need not be heard from other threads, and those that tell are several.
        let (sender, heard) = channel();
        thread::scope(|scope| {
            let stopped = Arc::clone(&stop);
            let work = scope.spawn(move || {
                let tell: Tell = Arc::new(move |progress| {
                    // Whoever hears has ended when this fails, and has set `stop`.
                    let _ = sender.send(progress);
                });
                self.work(patient, order, &stopped, &tell)
            });
            listen(&heard, hear, &stop);
            work.join().unwrap_or_else(|_| Err(Failed::Refused("it broke".to_owned())))
        })
    }
}

impl HostHands {
    fn work(
        &self,
        patient: &Patient,
        order: &Order,
        stop: &Arc<AtomicBool>,
        tell: &Tell,
    ) -> Result<Done, Failed> {
        if stop.load(Ordering::Relaxed) {
            return Err(Failed::Stopped);
        }
        match order {
            Order::Evidence { first_frames } => {
                self.keep(patient, FOUND, first_frames, &BTreeMap::new(), stop, tell)
            }
            Order::Move { templates } => self.shut_off_and_move(patient, templates, stop, tell),
            Order::Provision { provisioner, addresses } => {
                self.provision(patient, (provisioner, addresses), stop, tell)
            }
            Order::Replace { images, .. } => self.replace(patient, images, stop, tell),
            Order::Contain => {
                let how = self.keys.contain;
                let contained = contain(&patient.source, patient.uuid, how, stop, tell)?;
                let says = match contained {
                    Contained::Suspended => "it is suspended",
                    Contained::Off => "it is off",
                };
                Ok(Done { says: says.to_owned(), ..Done::default() })
            }
        }
    }

    fn keep(
        &self,
        patient: &Patient,
        what: &str,
        frames: &[String],
        known: &BTreeMap<String, Digest>,
        stop: &AtomicBool,
        tell: &Tell,
    ) -> Result<Done, Failed> {
        let (evidence, id) = (Evidence::new(&self.state), case(patient, what));
        let kept = match evidence.find(&id) {
            Some(kept) => kept,
            None => {
                let (uri, frames) = (&patient.source, frames.to_vec());
                let case = evidence::of_domain(&id, uri, patient.uuid, frames, known, stop, tell)?;
                evidence.keep(&case, Timestamp::now())
            }
        };
        let kept = kept.map_err(|error| Failed::Refused(error.to_string()))?;
        let place = storage::shown(&kept.place);
        let more = [("evidence", place.clone()), ("manifest-sha256", kept.sha256.to_string())];
        Ok(Done {
            says: format!("what it is is kept in {place}"),
            more: more.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            successor: None,
        })
    }

    fn shut_off_and_move(
        &self,
        patient: &Patient,
        templates: &[PathBuf],
        stop: &Arc<AtomicBool>,
        tell: &Tell,
    ) -> Result<Done, Failed> {
        let task = self.task(patient)?;
        let (grace, force) = (self.keys.shutdown_grace, self.keys.force);
        let off = shut_off(&task.uri, task.domain, grace, force, stop, tell)?;
        let report = self.mover(stop).with_kept(templates.to_vec()).carry_out(&task, tell)?;
        // As they were found: none of them has been written to since the VM went off. What an earlier call has moved may
        // have been.
        let fresh = report.moved.iter().filter(|one| one.fresh);
        let known = fresh.map(|one| (one.target.clone(), one.sha256)).collect();
        let mut done = self.keep(patient, OFF, &[], &known, stop, tell)?;
        for one in &report.moved {
            done.more.insert(
                one.target.clone(),
                format!("{} ({})", storage::shown(&one.to), one.sha256),
            );
            if let Some(why) = &one.kept {
                let place = storage::shown(&one.from);
                done.more.insert(format!("{} before", one.target), format!("{place} stays: {why}"));
            }
        }
        for one in &report.stays {
            done.more.insert(one.target.clone(), format!("stays: {}", one.why));
        }
        let how = match off {
            Off::Already => "it was off",
            Off::Graceful => "it has shut down",
            Off::Forced => "its power was taken",
        };
        let pool = storage::shell(&task.pool);
        done.says =
            format!("{how}; {} file(s) are in the pool {pool}, and the same", report.moved.len());
        Ok(done)
    }

    fn replace(
        &self,
        patient: &Patient,
        images: &[TemplateImage],
        stop: &Arc<AtomicBool>,
        tell: &Tell,
    ) -> Result<Done, Failed> {
        let of = |role| images.iter().find(|image| image.role == role).map(file);
        let disk = of(MediumRole::Disk).ok_or_else(|| {
            Failed::Refused(
                "the template has no image of a disk that a VM could be made of".to_owned(),
            )
        })?;
        let (grace, force) = (self.keys.shutdown_grace, self.keys.force);
        shut_off(&patient.source, patient.uuid, grace, force, stop, tell)?;
        self.keep(patient, OFF, &[], &BTreeMap::new(), stop, tell)?;
        let began = i64::try_from(patient.workflow).ok();
        let began =
            began.and_then(|began| Timestamp::from_millisecond(began).ok()).unwrap_or_default();
        let replacement = Replacement {
            uri: patient.source.clone(),
            former: patient.uuid,
            workflow: patient.workflow.to_string(),
            date: began.strftime("%Y%m%dT%H%M%SZ").to_string(),
            disk,
            kernel: of(MediumRole::Kernel),
            initrd: of(MediumRole::Initrd),
            arguments: None,
            pool: self.keys.replacement_pool.clone(),
            cloning: self.keys.cloning,
        };
        let done = Replacer::new(&self.state, Arc::clone(stop)).carry_out(&replacement, tell)?;
        let name = storage::shell(&done.name);
        let archived = storage::shell(&done.archived_as);
        let more = [("disk", storage::shown(&done.disk)), ("archived-as", archived.clone())];
        Ok(Done {
            says: format!(
                "{name} is made anew of the template; the former one is kept as {archived}"
            ),
            more: more.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            successor: Some(done.successor),
        })
    }
}

/// The name of what is kept of a VM in this workflow.
fn case(patient: &Patient, what: &str) -> String {
    format!("{}-{}-{what}", patient.uuid, patient.workflow)
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Stopped => Self::Stopped,
            error => Self::Refused(error.to_string()),
        }
    }
}

/// Hands on what is heard until nobody tells anything any more. Who says nothing is to stop no later.
fn listen(heard: &Receiver<storage::Progress>, hear: &mut Hear<'_>, stop: &AtomicBool) {
    let mut latest = Progress::default();
    loop {
        match heard.recv_timeout(LOOK) {
            Ok(progress) => latest = said(progress),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let ControlFlow::Break(()) = hear(latest.clone()) {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

fn file(image: &TemplateImage) -> TemplateFile {
    let format = image.format.clone().unwrap_or_else(|| "raw".to_owned());
    TemplateFile { path: image.path.clone(), format, sha256: image.sha256 }
}

fn said(progress: storage::Progress) -> Progress {
    match progress {
        storage::Progress::Step { what } => Progress { percent: None, says: what },
        storage::Progress::Told { percent, what } => Progress { percent, says: what },
        storage::Progress::Waiting { why } => Progress { percent: None, says: why },
        storage::Progress::Compares { target } => {
            Progress { percent: None, says: format!("{target} is read as a whole") }
        }
        storage::Progress::Copied { target, bytes, of } => Progress {
            percent: u8::try_from(bytes.saturating_mul(100) / of.max(1)).ok(),
            says: format!("{target}: {bytes} of {of} bytes"),
        },
    }
}

#[cfg(test)]
mod tests;
