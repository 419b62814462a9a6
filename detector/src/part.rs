//! Processes of the daemon that have a privilege each, for what takes one: the brain has none of them.
//!
//! Each is a run of `detector-part`, to which neither libvirt nor anything else is linked that only the brain needs.
//! Those that do no orders read lines of JSON from their standard input, and write some to their standard output. What
//! they do their work on is hostile, so that they are shut in as far as that work goes, and whoever looks whether they
//! are still there reads nothing ([`keep`]). All of them end with the daemon.

mod curb;
mod keep;
mod line;
mod listen;
mod scan;

use std::{
    env,
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::AsRawFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use anyhow::{Context, Result};
use caps::Capability;
use nix::sys::{
    prctl,
    signal::{SigHandler, Signal, signal},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{config::Config, escape::escape, privilege};

pub(crate) use curb::{Curbing, Wanted as Curbed};
pub(crate) use keep::keep;
pub use line::main;
pub(crate) use line::{Given, words};
pub use listen::Heard;
pub(crate) use listen::{Listener, Ports};
pub(crate) use scan::Scanning;

/// The program that parts are runs of.
const PROGRAM: &str = "detector-part";
/// The one whose run speaks to the fleet. What speaks to a network is in no program that has a privilege.
const OF_FLEET: &str = "detector-fleet";
/// Where packages have it, from where they have the daemon.
const PACKAGED: &str = "../libexec/detector";

/// Characters of how a part has ended that are told.
const LONGEST_WORD: usize = 200;
/// The longest line in bytes that is read: what a host with thousands of VMs is told of their processes.
const LONGEST_LINE: u64 = 64 << 20;

/// What a part says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said<What> {
    /// It has begun, and knows nothing of what was said to the one before it.
    Begun,
    /// It has ended, and how; it is started again.
    Ended(String),
    Told(What),
}

/// How a part has ended, which may be its own word: as much as a person reads.
pub(crate) fn brief(how: &str) -> String {
    escape(how).chars().take(LONGEST_WORD).collect()
}

/// Runs the program as the part that this word stands for.
///
/// # Errors
///
/// The program is not there.
pub(crate) fn command(word: &str, words: &[OsString]) -> io::Result<Command> {
    static OPENED: OnceLock<File> = OnceLock::new();
    let mut command = run_of(program(PROGRAM, &OPENED)?);
    command.arg0(PROGRAM).arg(word).args(words);
    Ok(command)
}

fn run_of(program: &File) -> Command {
    Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
}

/// Runs the program that speaks to the fleet.
///
/// # Errors
///
/// The program is not there.
pub(crate) fn start_of_fleet(words: &[OsString]) -> io::Result<(ChildStdin, ChildStdout)> {
    static OPENED: OnceLock<File> = OnceLock::new();
    let mut command = run_of(program(OF_FLEET, &OPENED)?);
    piped(command.arg0(OF_FLEET).args(words))
}

/// A program's file, opened once: what takes its place while the daemon runs is another release's.
fn program(name: &str, opened: &'static OnceLock<File>) -> io::Result<&'static File> {
    if let Some(opened) = opened.get() {
        return Ok(opened);
    }
    let places = places(&env::current_exe()?, name);
    for place in &places {
        match OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => return file.map(|file| opened.get_or_init(|| file)),
        }
    }
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    Err(io::Error::other(format!(
        "a part of this installation is missing: there is neither {}",
        places.join(" nor ")
    )))
}

/// Where a program may be, for this one.
fn places(own: &Path, name: &str) -> Vec<PathBuf> {
    let beside = own.parent().map(PathBuf::from).unwrap_or_default();
    let mut places = vec![beside.join(name), beside.join(PACKAGED).join(name)];
    // Tests are built one directory further down.
    if cfg!(debug_assertions) && beside.ends_with("deps") {
        places.push(beside.join("..").join(name));
    }
    places
}

fn start(word: &str, words: &[OsString]) -> io::Result<(ChildStdin, ChildStdout)> {
    piped(&mut command(word, words)?)
}

fn piped(command: &mut Command) -> io::Result<(ChildStdin, ChildStdout)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let missing = || io::Error::other("it has no standard input and output");
    let (input, output) = (child.stdin.take(), child.stdout.take());
    Ok((input.ok_or_else(missing)?, output.ok_or_else(missing)?))
}

/// Has tools that list processes show which part this is.
fn name() {
    show_as(env::args_os().nth(1).unwrap_or_default());
}

pub(crate) fn show_as(word: OsString) {
    if let Ok(word) = std::ffi::CString::new(word.into_encoded_bytes()) {
        // Without a name it does its work all the same.
        let _ = prctl::set_name(&word);
    }
}

/// What every part does first: it ends with the daemon, and by nothing else that ends the daemon.
///
/// # Errors
///
/// The kernel does not do it.
pub(crate) fn begin() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: nothing is called in place of what would be done.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Becomes the user that is configured, where there is one, with one privilege or two, and shuts itself in.
pub(crate) fn settle(
    config: &Config,
    kept: &[Capability],
    shut: impl FnOnce() -> io::Result<()>,
) -> Result<()> {
    let user = privilege::user(config.user.as_deref())?;
    match user {
        Some(user) => privilege::become_user(&user, kept),
        None => privilege::keep_only(kept),
    }
    .context("cannot give up privileges")?;
    // To become another user undoes it.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    shut().context("cannot shut itself in")
}

/// Says one thing. False when nobody listens any more.
pub(crate) fn say<What: Serialize>(what: &Said<What>) -> bool {
    let Ok(mut line) = serde_json::to_vec(what) else { return true };
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).is_ok()
}

/// What was said next; `None` at the end. What cannot be understood is passed over: whoever said it was ended in the
/// middle of it, or has been taken over.
pub(crate) fn hear<What: DeserializeOwned>(from: &mut impl BufRead) -> Option<What> {
    loop {
        let mut line = Vec::new();
        io::Read::take(&mut *from, LONGEST_LINE).read_until(b'\n', &mut line).ok()?;
        if !line.ends_with(b"\n") {
            return None;
        }
        if let Ok(said) = serde_json::from_slice(&line) {
            return Some(said);
        }
    }
}

/// A list that a part is told whenever it changes. Whoever changes it waits for nobody.
#[derive(Debug)]
pub(crate) struct List<What> {
    list: Arc<Mutex<What>>,
    /// That there is news; one is as good as many.
    bell: SyncSender<()>,
}

impl<What> Clone for List<What> {
    fn clone(&self) -> Self {
        Self { list: Arc::clone(&self.list), bell: self.bell.clone() }
    }
}

impl<What> List<What> {
    /// This one from now on.
    pub(crate) fn set(&self, list: What) {
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = list;
        self.ring();
    }

    /// Has it told again.
    fn ring(&self) {
        // Where it rings already, or nobody is left who listens, that has been told.
        let _ = self.bell.try_send(());
    }
}

/// An empty list, which a thread of this name passes on.
fn list_for<What>(name: &str, mut to: ChildStdin) -> io::Result<List<What>>
where
    What: Default + Clone + Serialize + Send + 'static,
{
    let (bell, rung) = sync_channel(1);
    let list: List<What> = List { list: Arc::default(), bell };
    let told = Arc::clone(&list.list);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        for () in rung {
            let list = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let line = serde_json::to_vec(&list).unwrap_or_default();
            if to.write_all(&line).and_then(|()| to.write_all(b"\n")).is_err() {
                return;
            }
        }
    })?;
    Ok(list)
}

pub(crate) fn lines(from: ChildStdout) -> BufReader<ChildStdout> {
    BufReader::new(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_of_one_who_has_ended() {
        let ended = "\n{\"Ended\":\"killed\"}\n";
        let text =
            format!("\"Begun\"\n{{\"Told\":[1,2]}}\n{{\"Told\":[3{ended}{{\"Told\":[4]}}\n{{\"To");
        let mut heard = text.as_bytes();
        let mut all = Vec::new();
        while let Some(said) = hear::<Said<Vec<u32>>>(&mut heard) {
            all.push(format!("{said:?}"));
        }
        assert_eq!(all, ["Begun", "Told([1, 2])", "Ended(\"killed\")", "Told([4])"]);
        // The end of a list is no list.
        let list = serde_json::to_string(&[(10, 2), (30, 4)]).unwrap() + "\n";
        for at in 1..list.len() {
            let mut rest = &list.as_bytes()[at..];
            assert_eq!(hear::<Vec<(u32, u32)>>(&mut rest), None, "{}", &list[at..]);
        }
    }

    #[test]
    fn the_program_is_where_it_was_installed() {
        let places = |own: &str| -> Vec<String> {
            places(Path::new(own), PROGRAM)
                .iter()
                .map(|place| place.display().to_string())
                .collect()
        };
        let expect = ["/usr/sbin/detector-part", "/usr/sbin/../libexec/detector/detector-part"];
        assert_eq!(places("/usr/sbin/detector"), expect);
        // As the kernel names it after an upgrade.
        assert_eq!(places("/usr/sbin/detector (deleted)"), expect);
    }
}
