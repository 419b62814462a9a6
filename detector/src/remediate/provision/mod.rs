//! Provisioners: programs that bring a VM into the state that the policy asks for (docs/provisioners.md).
//!
//! One is handed a [`Request`] as JSON on its standard input, says how it goes on in lines of JSON on its standard output,
//! and ends with an exit code. It is nobody's word on whether the VM is in order: that is evaluated afresh. It runs
//! without privileges, beneath a *supervisor*, a process of this program that ends with the daemon and takes along
//! whatever the provisioner has started.

mod family;
pub mod offline;
mod output;
mod supervisor;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use detector_core::model::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::storage::Progress;
use crate::part;

pub(crate) use supervisor::supervise;

/// Of what is said to provisioners.
pub const VERSION: u32 = 1;
/// Exit code of one that cannot do its work now and may be asked again (`EX_TEMPFAIL` of sysexits.h).
pub const LATER: i32 = 75;

/// The longest line in bytes that a supervisor says: the end of the output, as JSON.
const LONGEST: u64 = 8 << 20;
/// How long a supervisor may take beyond the time of its provisioner.
const GRACE: Duration = Duration::from_secs(20);
/// How often it is looked whether whoever waits still shall.
const LOOK: Duration = Duration::from_millis(200);

/// A program, and what it is told besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioner {
    pub name: String,
    /// Program and arguments; no shell is in between.
    pub command: Vec<String>,
    /// For how long it may run.
    pub timeout: Duration,
    /// How much of the end of its output is kept.
    pub keep: usize,
    /// What the configuration says to it, as it is.
    pub settings: BTreeMap<String, String>,
}

/// What a provisioner is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub version: u32,
    /// Which workflow it is for: the same one may be asked for again after a crash.
    pub workflow: String,
    pub vm: Subject,
    pub disks: Vec<Disk>,
    /// Addresses that the VM is known under, as texts: granted to its NICs, learned or leased by them.
    pub addresses: Vec<String>,
    pub settings: BTreeMap<String, String>,
    /// For how long it may run.
    pub seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub uuid: Uuid,
    pub name: String,
}

/// A disk of the VM in the sandbox's pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub target: String,
    pub path: PathBuf,
    /// `raw` or `qcow2`.
    pub format: String,
    /// What it was when the VM was off, and before anything was changed, as far as that was kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<Digest>,
}

/// What a provisioner says while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Said {
    Progress {
        /// 0 to 100.
        percent: u8,
        #[serde(default)]
        message: String,
    },
    Message {
        message: String,
    },
    /// What it takes its work to have come to; only the last one counts.
    Result {
        ok: bool,
        #[serde(default)]
        changed: Option<bool>,
        #[serde(default)]
        message: String,
    },
}

/// As what is heard of anything else.
impl From<Said> for Progress {
    fn from(said: Said) -> Self {
        match said {
            Said::Progress { percent, message } => {
                Self::Told { percent: Some(percent), what: message }
            }
            Said::Message { message } | Said::Result { message, .. } => {
                Self::Told { percent: None, what: message }
            }
        }
    }
}

/// What has come of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub outcome: Outcome,
    /// The end of what it has printed.
    pub output: String,
    /// How much that was altogether, in bytes.
    pub printed: u64,
    /// Processes that it has left behind, and that were ended.
    pub strays: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    Done {
        changed: Option<bool>,
        message: String,
    },
    Failed {
        why: String,
    },
    /// It may be asked again.
    Later {
        why: String,
    },
    /// Its time was up.
    Late {
        why: String,
    },
    /// Nobody wanted it any more.
    GivenUp,
}

/// Why a provisioner did not run.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error(
        "{0:?} is no provisioner: expected [[remediation.provisioners]] with a command that is not empty"
    )]
    Empty(String),
    #[error("the provisioner cannot be started: {0}")]
    Io(#[from] io::Error),
}

/// What the supervisor is told, in one line.
#[derive(Serialize, Deserialize)]
struct Job {
    command: Vec<String>,
    directory: PathBuf,
    seconds: u64,
    keep: usize,
    request: Request,
}

/// What it says, in lines.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Said(Said),
    Ended(Box<Ended>),
}

impl Request {
    pub fn new(workflow: &str, vm: Subject, disks: Vec<Disk>) -> Self {
        Self {
            version: VERSION,
            workflow: workflow.to_owned(),
            vm,
            disks,
            addresses: Vec::new(),
            settings: BTreeMap::new(),
            seconds: 0,
        }
    }
}

/// Runs a provisioner to its end. Its working directory is below the state directory and goes with it. Blocks; ends soon
/// after `stop` is set.
///
/// # Errors
///
/// It was not started.
pub fn run(
    provisioner: &Provisioner,
    mut request: Request,
    state: &Path,
    stop: &AtomicBool,
    mut tell: impl FnMut(Said),
) -> Result<Ended, ProvisionError> {
    if provisioner.command.is_empty() {
        return Err(ProvisionError::Empty(provisioner.name.clone()));
    }
    let directory = WorkDirectory::make(state, &request.vm.uuid)?;
    request.settings.extend(provisioner.settings.clone());
    request.seconds = provisioner.timeout.as_secs();
    let job = Job {
        command: provisioner.command.clone(),
        directory: directory.0.clone(),
        seconds: provisioner.timeout.as_secs(),
        keep: provisioner.keep,
        request,
    };
    let mut supervisor = Supervisor::start(&job)?;
    let words = supervisor.words()?;
    let latest = Instant::now() + provisioner.timeout + GRACE;
    loop {
        match words.recv_timeout(LOOK) {
            Ok(Word::Said(said)) => tell(said),
            Ok(Word::Ended(ended)) => return Ok(*ended),
            Err(RecvTimeoutError::Disconnected) => {
                supervisor.lose(&directory);
                return Ok(lost("its supervisor has ended, or been ended, before it"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if stop.load(Ordering::Relaxed) {
            supervisor.give_up();
        }
        if Instant::now() > latest {
            supervisor.lose(&directory);
            return Ok(lost("its supervisor does not answer"));
        }
    }
}

fn lost(why: &str) -> Ended {
    let why = format!("what has become of the provisioner is not known: {why}");
    Ended { outcome: Outcome::Failed { why }, output: String::new(), printed: 0, strays: 0 }
}

/// Where a provisioner may write; it goes with this value.
struct WorkDirectory(PathBuf);

impl WorkDirectory {
    fn make(state: &Path, vm: &Uuid) -> io::Result<Self> {
        let all = state.join("provision");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&all)?;
        let vm = vm.to_string();
        for left in fs::read_dir(&all)? {
            let left = left?;
            // Of an earlier one, whose daemon has been ended, and perhaps its supervisor too.
            if left.file_name().as_encoded_bytes().starts_with(vm.as_bytes()) {
                family::end_of(&left.path());
                drop(Self(left.path()));
            }
        }
        // A name of its own: what an earlier one has left may be such that it cannot be removed.
        let path = all.join(format!("{vm}-{}", Timestamp::now().as_nanosecond()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "what a provisioner has left stays");
        }
    }
}

/// A supervisor; it ends with this value, and its provisioner with it.
struct Supervisor {
    process: Child,
}

impl Supervisor {
    fn start(job: &Job) -> io::Result<Self> {
        let mut line = serde_json::to_vec(job)?;
        line.push(b'\n');
        let mut command = part::command(supervisor::WORD, &[])?;
        command.env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let told = process.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(&line));
        let supervisor = Self { process };
        told.map(|()| supervisor)
    }

    fn words(&mut self) -> io::Result<std::sync::mpsc::Receiver<Word>> {
        let stdout = self.process.stdout.take();
        let stdout = stdout.ok_or_else(|| io::Error::other("it has no standard output"))?;
        let (sender, words) = sync_channel(16);
        thread::Builder::new().name("provisioner".to_owned()).spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Some(word) = hear(&mut stdout) {
                if sender.send(word).is_err() {
                    return;
                }
            }
        })?;
        Ok(words)
    }

    /// Does without it: what it has been to end is ended from here, as far as it can be told.
    fn lose(&mut self, directory: &WorkDirectory) {
        // It has ended by itself when this fails.
        let _ = self.process.kill();
        family::end_of(&directory.0);
    }

    /// Has it end its provisioner, and say so.
    fn give_up(&mut self) {
        drop(self.process.stdin.take());
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.give_up();
        let until = Instant::now() + GRACE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < until {
            thread::park_timeout(Duration::from_millis(10));
        }
        // It has ended by itself when this fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn hear<What: serde::de::DeserializeOwned>(from: &mut impl BufRead) -> Option<What> {
    let mut line = Vec::new();
    Read::take(&mut *from, LONGEST).read_until(b'\n', &mut line).ok()?;
    if !line.ends_with(b"\n") {
        return None;
    }
    serde_json::from_slice(&line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_has_left_is_in_nobodys_way() {
        let state = tempfile::tempdir().unwrap();
        let make = || WorkDirectory::make(state.path(), &Uuid::from_u128(7)).unwrap();
        let other = WorkDirectory::make(state.path(), &Uuid::from_u128(8)).unwrap();
        let first = make();
        let left = first.0.join("read-only");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("file"), "").unwrap();
        let mut read_only = fs::metadata(&left).unwrap().permissions();
        read_only.set_readonly(true);
        fs::set_permissions(&left, read_only).unwrap();
        // Of a daemon that has been ended.
        let first = std::mem::ManuallyDrop::new(first);
        let second = make();
        assert_ne!(second.0, first.0);
        assert_eq!(fs::read_dir(&second.0).unwrap().count(), 0);
        let place = second.0.clone();
        drop(second);
        assert!(!place.exists() && other.0.exists());
    }
}
