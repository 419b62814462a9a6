//! Processes of the daemon that have a privilege each, for what takes one: the brain has none of them.
//!
//! Each is this program run anew, reads lines of JSON from its standard input, and writes some to its standard output.
//! It ends with the daemon. What it does its work on is hostile, so that it is shut in as far as that work goes.

mod listen;
mod scan;

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result};
use caps::Capability;
use nix::sys::{
    prctl,
    signal::{SigHandler, Signal, signal},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{config::Config, privilege};

pub(crate) use listen::{Listener, WORD as LISTENER_WORD, listen};
pub(crate) use scan::{Scanning, WORD as SCANNER_WORD, scan};

/// The longest line in bytes that is read: what a host with thousands of VMs is told of their processes.
const LONGEST_LINE: u64 = 64 << 20;

/// Runs this very program anew as the part that this word stands for.
pub(crate) fn command(word: &str, words: &[OsString]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("detector")
        .arg(word)
        .args(words.iter().map(OsString::as_os_str).collect::<Vec<&OsStr>>());
    command
}

fn start(word: &str, words: &[OsString]) -> io::Result<(ChildStdin, ChildStdout)> {
    let mut command = command(word, words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let missing = || io::Error::other("it has no standard input and output");
    let (input, output) = (child.stdin.take(), child.stdout.take());
    Ok((input.ok_or_else(missing)?, output.ok_or_else(missing)?))
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
fn settle(config: &Config, kept: &[Capability], shut: fn() -> io::Result<()>) -> Result<()> {
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
fn say(what: &impl Serialize) -> bool {
    let Ok(mut line) = serde_json::to_vec(what) else { return true };
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).is_ok()
}

/// What was said next; `None` at the end, or where it cannot be understood: what says that has been taken over.
fn hear<What: DeserializeOwned>(from: &mut impl BufRead) -> Option<What> {
    let mut line = Vec::new();
    io::Read::take(&mut *from, LONGEST_LINE).read_until(b'\n', &mut line).ok()?;
    if !line.ends_with(b"\n") {
        return None;
    }
    serde_json::from_slice(&line).ok()
}

fn lines(from: ChildStdout) -> BufReader<ChildStdout> {
    BufReader::new(from)
}
