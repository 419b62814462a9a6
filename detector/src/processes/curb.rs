//! Keeps VMs from running on that no inventory knows: by a descriptor of each process, and only after a look of
//! its own at what the process is.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use detector_core::model::{Curb, Curbed, ProcessId, Timestamp};

use super::{
    ScanOptions,
    procfs::{ProcFs, Stat},
    scan::{Rules, Scanner},
};

/// What is said of one that does not stay suspended.
const LET_GO_ON: &str =
    "somebody lets it go on, time and again (SIGCONT): end it, or whoever does so";

/// Processes between one and its first that are looked at.
const DEEPEST: usize = 64;

/// How often a suspended process may be let go on within [`SPAN`] before that is somebody's who does not want it
/// suspended: each time it has run until the next look.
const MOST_RUNS: usize = 3;
const SPAN: Duration = Duration::from_secs(60);
/// How long a signal may take to be acted upon.
const PROMPT: Duration = Duration::from_millis(500);
/// After which one is tried again that could not be looked at: what was in the way may have passed.
const AGAIN: Duration = Duration::from_secs(10);

/// Whoever keeps processes from running on.
#[derive(Debug)]
pub(crate) struct Curbs {
    proc: ProcFs,
    rules: Rules,
    /// This process and those that it descends from.
    own: Vec<u32>,
    daemon: u32,
    held: BTreeMap<ProcessId, Held>,
}

/// A process that is wanted to be kept from running on.
#[derive(Debug)]
struct Held {
    how: Curb,
    /// Its descriptor, where it was found to be what is wanted: it stands for this one life of its number.
    process: Option<OwnedFd>,
    state: Curbed,
    /// When it was signalled last, or could not be.
    signalled: Timestamp,
    /// How much it had run when it was last seen at rest.
    rested: Option<u64>,
    /// When it was found to have run on.
    runs: VecDeque<Timestamp>,
}

impl Curbs {
    /// `daemon` is the process for which it does so: what that has started is spared.
    pub(crate) fn new(options: ScanOptions, daemon: u32) -> Self {
        let ScanOptions { grace, records, ignored, .. } = options;
        let proc = ProcFs::open();
        let own = std::process::id();
        let own = [own].into_iter().chain(ancestors(&proc, own)).collect();
        Self { proc, rules: Rules { grace, records, ignored }, own, daemon, held: BTreeMap::new() }
    }

    /// Keeps these from running on, and lets go on what it has suspended and nobody wants suspended any more.
    /// Returns what has become of each.
    pub(crate) fn keep(
        &mut self,
        wanted: &BTreeMap<ProcessId, Curb>,
        now: Timestamp,
    ) -> BTreeMap<ProcessId, Curbed> {
        self.held.retain(|id, held| {
            let stays = wanted.get(id) == Some(&held.how);
            if !stays
                && held.how == Curb::Suspend
                && held.state != Curbed::Ended
                && let Some(process) = &held.process
            {
                // Where it has ended there is nothing to let go on.
                let _ = signal(process, libc::SIGCONT);
            }
            stays
        });
        for (id, how) in wanted {
            match self.held.get_mut(id) {
                Some(held) if held.process.is_some() || now < held.signalled + AGAIN => {
                    held.hold(&self.proc, *id, now);
                    continue;
                }
                _ => {}
            }
            let (process, state) = match self.take(*id, *how, now) {
                Ok((process, state)) => (Some(process), state),
                Err(why) => (None, Curbed::Refused(why)),
            };
            let (how, signalled) = (*how, now);
            let held = Held { how, process, state, signalled, rested: None, runs: VecDeque::new() };
            self.held.insert(*id, held);
        }
        self.held.iter().map(|(id, held)| (*id, held.state.clone())).collect()
    }

    fn take(&self, id: ProcessId, how: Curb, now: Timestamp) -> Result<(OwnedFd, Curbed), String> {
        if id.pid <= 1 || self.own.contains(&id.pid) {
            return Err("it is what the host, or the daemon, runs by".to_owned());
        }
        let process = open(id.pid).map_err(|error| format!("it cannot be opened: {error}"))?;
        self.look(id, now)?;
        // While it lives nobody else has its number: so what was read was of it.
        signal(&process, 0).map_err(|error| format!("it has ended meanwhile: {error}"))?;
        let (signal_of, state) = match how {
            Curb::Suspend => (libc::SIGSTOP, Curbed::Suspended),
            Curb::Stop => (libc::SIGKILL, Curbed::Ended),
        };
        signal(&process, signal_of).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => {
                "the daemon may not signal processes of others: it takes CAP_KILL, which its unit gives it with a \
                 drop-in"
                    .to_owned()
            }
            _ => format!("it cannot be signalled: {error}"),
        })?;
        Ok((process, state))
    }

    /// Whether it is a VM's, by what it holds and is, and no manager's.
    fn look(&self, id: ProcessId, now: Timestamp) -> Result<(), String> {
        if ancestors(&self.proc, id.pid).contains(&self.daemon) {
            return Err("the daemon has started it".to_owned());
        }
        let unreadable = |error: io::Error| format!("it cannot be looked into: {error}");
        let mut scanner = Scanner::new(self.rules.clone()).map_err(unreadable)?;
        scanner.some(now, &BTreeSet::from([id.pid])).map_err(unreadable)?;
        match scanner.found().get(&id) {
            None => Err("there is no such process any more, or it is no VM's".to_owned()),
            Some(found) if found.recorded.is_some() => {
                Err("its manager has recorded it as a VM's".to_owned())
            }
            Some(found) if !found.is_vm() => Err("it runs no VM".to_owned()),
            Some(_) => Ok(()),
        }
    }
}

impl Held {
    /// Whoever has let it go on does not have it run on.
    fn hold(&mut self, proc: &ProcFs, id: ProcessId, now: Timestamp) {
        let Some(process) = &self.process else { return };
        if signal(process, 0).is_err() {
            self.state = Curbed::Ended;
        } else if self.how == Curb::Stop {
            let _ = signal(process, libc::SIGKILL);
        } else if let Some(stat) = proc.stat(id.pid).filter(|stat| stat.id == id) {
            let has_run = self.has_run(&stat, now);
            self.rested = stat.is_at_rest().then_some(stat.ran);
            if !stat.is_stopped() {
                let _ = signal(process, libc::SIGSTOP);
                self.signalled = now;
            }
            self.count(has_run, now);
        }
    }

    /// Whether it has run since it was suspended, or looked at.
    fn has_run(&self, stat: &Stat, now: Timestamp) -> bool {
        match self.rested {
            // It may have been at rest again in time for the look.
            Some(before) => stat.ran > before || !stat.is_at_rest(),
            None => !stat.is_at_rest() && now >= self.signalled + PROMPT,
        }
    }

    /// One that is let go on time and again is not suspended, whatever state it is in at the moment. It is once it
    /// has stayed so for some time.
    fn count(&mut self, has_run: bool, now: Timestamp) {
        if has_run {
            self.runs.push_back(now);
        }
        while self.runs.front().is_some_and(|at| now >= *at + SPAN)
            || self.runs.len() > MOST_RUNS + 1
        {
            self.runs.pop_front();
        }
        if self.runs.len() > MOST_RUNS {
            self.state = Curbed::Refused(LET_GO_ON.to_owned());
        } else if self.runs.is_empty() {
            self.state = Curbed::Suspended;
        }
    }
}

/// The processes that this one descends from, the closest first.
fn ancestors(proc: &ProcFs, pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| proc.stat(*pid).map(|stat| stat.parent).filter(|pid| *pid > 0);
    std::iter::successors(parent(&pid), parent).take(DEEPEST).collect()
}

/// Its descriptor (pidfd_open(2)).
fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the call has just made it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals the process of this descriptor, and no other that has its number by now (pidfd_send_signal(2)).
fn signal(process: &OwnedFd, number: libc::c_int) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without a siginfo_t the call takes numbers only.
    let code = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, nothing, 0)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
