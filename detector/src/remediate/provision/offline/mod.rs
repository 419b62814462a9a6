//! The provisioner that comes with the detector: it changes the disks of a VM that is off, in the pool of the sandbox.
//!
//! What is on them is hostile, and no kernel of the host's mounts it: a machine of its own does, which libvirt runs as it
//! runs any VM, without an interface. It has the VM's name and UUID, so that nobody starts the VM meanwhile, and the disks
//! by libvirt's hand, so that the daemon needs no access to them. It is told what to do by what it boots from, says how
//! that goes on by lines of the contract on its console, and ends with the connection, whatever becomes of the daemon.

mod appliance;
mod domain;

use std::{
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virt::{domain::Domain, stream::Stream, sys};

use super::{
    Ended, Outcome, Request, Said,
    output::{Lines, Tail},
};
use crate::remediate::storage::{PATIENCE, Pool, Session, StorageError, Tell, put_whole, shell};

/// How often it is looked whether whoever waits still shall.
const LOOK: Duration = Duration::from_millis(200);
/// How often something is said at most; the last one of several that come sooner is.
const SAY_EVERY: Duration = Duration::from_millis(200);
/// Bytes that are taken of its console at a time, and how many of these may wait.
const BUFFER: usize = 16 << 10;
const WAITING: usize = 16;

/// What is done to the disks, in this order: paths are removed, files put, units masked, and scripts run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Offline {
    /// What the machine boots from.
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// 64 to 4096.
    pub memory_mib: u32,
    /// The device with the root file system, such as `vda1`; found by its directory `etc` where the key is absent.
    pub root: Option<String>,
    pub remove: Vec<String>,
    pub files: Vec<OfflineFile>,
    /// Units of systemd's that do not start any more.
    pub mask: Vec<String>,
    /// Scripts for the image's own shell.
    pub run: Vec<String>,
}

/// A file that is put into the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfflineFile {
    pub path: String,
    /// What is in it, or the file of the host that it is a copy of.
    pub content: Option<String>,
    pub from: Option<PathBuf>,
    /// In octal digits.
    #[serde(default = "usual_mode")]
    pub mode: String,
    /// Numbers of user and group.
    #[serde(default = "root_owner")]
    pub owner: String,
}

fn usual_mode() -> String {
    "0644".to_owned()
}

fn root_owner() -> String {
    "0:0".to_owned()
}

impl Default for Offline {
    fn default() -> Self {
        Self {
            kernel: "/vmlinuz".into(),
            initrd: "/initrd.img".into(),
            memory_mib: 512,
            root: None,
            remove: Vec::new(),
            files: Vec::new(),
            mask: Vec::new(),
            run: Vec::new(),
        }
    }
}

impl Offline {
    /// What of it cannot be meant.
    pub(crate) fn fault(&self) -> Option<String> {
        const MOST_STEPS: usize = 256;
        const MEMORY: std::ops::RangeInclusive<u32> = 64..=4096;
        let whole = |path: &str| {
            let mut parts = path.split('/').skip(1);
            path.starts_with('/')
                && parts.all(|part| !matches!(part, "" | "." | ".."))
                && !path.contains('\0')
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let owner = |text: &str| {
            text.split_once(':').is_some_and(|(user, group)| digits(user) && digits(group))
        };
        let octal = |text: &str| {
            (3..=4).contains(&text.len()) && text.bytes().all(|c| (b'0'..=b'7').contains(&c))
        };
        let unit = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-.@:\\".contains(c);
            name.contains('.') && name.chars().all(plain) && !name.starts_with('.')
        };
        let device =
            |name: &str| name.starts_with("vd") && name.chars().all(|c| c.is_ascii_alphanumeric());
        if !MEMORY.contains(&self.memory_mib) {
            return Some("memory_mib: expected 64 to 4096".to_owned());
        }
        if !self.kernel.is_absolute() || !self.initrd.is_absolute() {
            return Some("kernel and initrd: expected whole paths".to_owned());
        }
        if let Some(root) = self.root.as_deref().filter(|root| !device(root)) {
            return Some(format!("root: {root:?} is no device of the machine's, such as \"vda1\""));
        }
        let steps = self.remove.len() + self.files.len() + self.mask.len() + self.run.len();
        if steps == 0 || steps > MOST_STEPS {
            return Some(format!("expected 1 to {MOST_STEPS} of remove, files, mask and run"));
        }
        let paths = self.remove.iter().chain(self.files.iter().map(|file| &file.path));
        if let Some(path) = paths.into_iter().find(|path| !whole(path)) {
            return Some(format!("{path:?} is no whole path of a file"));
        }
        if let Some(name) = self.mask.iter().find(|name| !unit(name)) {
            return Some(format!("mask: {name:?} is no name of a unit"));
        }
        self.files.iter().find_map(|file| {
            let path = &file.path;
            match (&file.content, &file.from) {
                (Some(_), None) => {}
                (None, Some(from)) if from.is_absolute() => {}
                _ => return Some(format!("{path:?}: expected content, or from with a whole path")),
            }
            if !octal(&file.mode) {
                return Some(format!("{path:?}: the mode {:?} is not octal", file.mode));
            }
            (!owner(&file.owner))
                .then(|| format!("{path:?}: the owner {:?} is no \"UID:GID\"", file.owner))
        })
    }
}

/// Whose disks are changed, and where they are.
pub struct Where<'a> {
    /// libvirt's connection.
    pub uri: &'a str,
    /// The pool of the sandbox: disks outside of it are left alone.
    pub pool: &'a str,
}

/// Bounds.
pub struct Limits {
    pub timeout: Duration,
    /// How much of the end of what is printed is kept, in bytes.
    pub keep: usize,
}

/// Changes the disks. The VM is off. Blocks; ends soon after `stop` is set.
///
/// # Errors
///
/// Nothing was begun, or libvirt has failed half-way. The machine is no longer there, or libvirt cannot say.
pub fn run(
    at: &Where<'_>,
    mut request: Request,
    work: &Offline,
    limits: &Limits,
    stop: &AtomicBool,
    tell: &Tell,
) -> Result<Ended, StorageError> {
    let session = Session::open(at.uri, PATIENCE, tell)?;
    let pool = session.pool(at.pool)?;
    let vm = request.vm.uuid;
    request.disks.retain(|disk| is_moved(&disk.path, &pool.directory, vm));
    if request.disks.is_empty() {
        return Err(StorageError::Refused(format!(
            "none of its disks is in the storage pool {}: only those that have been moved there are changed",
            shell(&pool.name)
        )));
    }
    request.seconds = limits.timeout.as_secs();
    let machine = Machine { session: &session, pool: &pool, vm };
    if machine.clear()? {
        return Err(StorageError::Refused(
            "the VM runs: its disks are changed only while it is off".to_owned(),
        ));
    }
    let ended = machine.begin(&request, work).map(|running| running.attend(limits, stop, tell));
    let cleared = machine.clear();
    let ended = ended?;
    cleared?;
    Ok(ended)
}

/// Whether a move has put the file there for this VM: whoever describes a VM could name another one's.
fn is_moved(file: &Path, pool: &Path, vm: Uuid) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    file.parent() == Some(pool) && name.is_some_and(|name| name.starts_with(&format!("{vm}-")))
}

/// The machine of one VM.
struct Machine<'a> {
    session: &'a Session,
    pool: &'a Pool,
    vm: Uuid,
}

impl Machine<'_> {
    /// What its kernel and its initial file system are called in the pool.
    fn volumes(&self) -> [String; 2] {
        ["kernel", "initrd"].map(|what| format!("{}-appliance.{what}", self.vm))
    }

    fn place(&self, name: &str) -> PathBuf {
        self.pool.directory.join(name)
    }

    /// Ends it where it runs still, and removes what it has left. Whether the VM itself runs, which is left alone.
    fn clear(&self) -> Result<bool, StorageError> {
        let [kernel, initrd] = self.volumes();
        let live = self.session.look(self.vm)?.and_then(|found| found.live);
        let is_own = live.as_ref().map(|live| boots_from(live, &self.place(&kernel)));
        if is_own == Some(true) {
            self.end()?;
        }
        self.pool.remove(self.session, &kernel)?;
        self.pool.remove(self.session, &initrd)?;
        Ok(is_own == Some(false))
    }

    fn begin(&self, request: &Request, work: &Offline) -> Result<Running, StorageError> {
        let gone =
            || StorageError::Interfered(format!("libvirt knows no domain {} any more", self.vm));
        let found = self.session.look(self.vm)?.ok_or_else(gone)?;
        let told = serde_json::to_vec(request)
            .map_err(|error| StorageError::Refused(error.to_string()))?;
        let kernel = appliance::kernel(work).map_err(StorageError::Refused)?;
        let initrd = appliance::initrd(work, &told).map_err(StorageError::Refused)?;
        let [kernel_name, initrd_name] = self.volumes();
        let (kernel_at, initrd_at) = (self.place(&kernel_name), self.place(&initrd_name));
        let (memory_mib, disks) = (work.memory_mib, &request.disks[..]);
        let boot = domain::Boot { kernel: &kernel_at, initrd: &initrd_at, memory_mib };
        let described = domain::describe(&found.described, self.vm, &boot, disks);
        let described = described.map_err(StorageError::Refused)?;
        put_whole(self.session, self.pool, &kernel_name, &kernel)?;
        put_whole(self.session, self.pool, &initrd_name, &initrd)?;
        const HOW: u32 = sys::VIR_DOMAIN_START_PAUSED | sys::VIR_DOMAIN_START_AUTODESTROY;
        let stream = self.session.ask("run a machine that changes its disks", |connection| {
            let domain = Domain::create_xml(connection, &described, HOW)?;
            let stream = Stream::new(connection, 0)?;
            // Before it runs, so that nothing of what it says is missed.
            domain.open_console(None, &stream, sys::VIR_DOMAIN_CONSOLE_FORCE)?;
            domain.resume()?;
            Ok(stream)
        })?;
        let (sender, said) = sync_channel(WAITING);
        thread::Builder::new()
            .name("offline".to_owned())
            .spawn(move || take(&stream, &sender))
            .map_err(|error| StorageError::Failed(format!("nobody would hear it: {error}")))?;
        Ok(Running { said })
    }

    fn end(&self) -> Result<(), StorageError> {
        let Some(domain) = self.session.domain(self.vm)? else { return Ok(()) };
        let ended = self.session.ask("end the machine", |_| domain.destroy());
        let runs = self.session.find("say whether the machine runs", |_| domain.is_active())?;
        // It has powered itself off meanwhile where that fails and it does not run.
        if runs == Some(true) { ended.map(drop) } else { Ok(()) }
    }
}

/// Whether a running domain boots from the kernel of a machine of ours.
fn boots_from(live: &str, kernel: &Path) -> bool {
    use crate::inventory::xml::{child, document, text};
    let Ok(document) = document(live) else { return false };
    let os = child(document.root_element(), "os");
    os.and_then(|os| text(os, "kernel")).is_some_and(|said| Path::new(said) == kernel)
}

/// Takes what the console says until it ends.
fn take(stream: &Stream, sender: &SyncSender<Vec<u8>>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.recv(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if sender.send(buffer.get(..count).unwrap_or_default().to_vec()).is_err() {
                    return;
                }
            }
        }
    }
}

/// One that says something on its console.
struct Running {
    said: Receiver<Vec<u8>>,
}

impl Running {
    /// Until its console ends, which it does when it is off, its time is up, or nobody wants it any more.
    fn attend(self, limits: &Limits, stop: &AtomicBool, tell: &Tell) -> Ended {
        let until = Instant::now() + limits.timeout;
        let (mut lines, mut tail) = (Lines::default(), Tail::new(limits.keep));
        let (mut result, mut waits, mut told) = (None, None, Instant::now());
        let interrupted = loop {
            match self.said.recv_timeout(LOOK) {
                Ok(mut bytes) => {
                    // As a terminal has them, lines end with a return too.
                    bytes.retain(|byte| *byte != b'\r');
                    tail.take(&bytes);
                    for said in lines.take(&bytes) {
                        if let Said::Result { ok, changed, message } = &said {
                            result = Some((*ok, *changed, message.clone()));
                        }
                        waits = Some(said);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            if stop.load(Ordering::Relaxed) {
                break Some(Outcome::GivenUp);
            }
            if Instant::now() >= until {
                let seconds = limits.timeout.as_secs();
                let why = format!("it has not ended in {seconds} s, and was ended");
                break Some(Outcome::Late { why });
            }
            if told.elapsed() >= SAY_EVERY
                && let Some(said) = waits.take()
            {
                tell(said.into());
                told = Instant::now();
            }
        };
        let outcome = interrupted.unwrap_or(match result {
            Some((true, changed, message)) => Outcome::Done { changed, message },
            Some((false, _, message)) => Outcome::Failed { why: message },
            None => Outcome::Failed {
                why: "its machine has ended without saying what has come of it".to_owned(),
            },
        });
        Ended { outcome, output: tail.text(), printed: tail.printed, strays: 0 }
    }
}

#[cfg(test)]
mod tests;
