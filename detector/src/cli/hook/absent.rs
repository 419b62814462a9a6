//! A daemon that does not answer: whether a start waits for it, and what becomes of the start.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use detector_common::settings::Mode;

use crate::{
    api::{CallError, Client, ErrorCode, Reply, Request},
    bpf::{Inspector, holder},
    config::{Admission, Config, OnRefusal},
    mode::ModeFile,
    stopped::StopMark,
};

/// The daemon answers in time by itself; this is how much later the hook gives up.
const SLACK: Duration = Duration::from_secs(2);
/// A daemon that was told to end is back within this time, if it was to start again.
const RESTART: Duration = Duration::from_secs(10);
/// Between two attempts: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(800);

/// What is known of the host beside the daemon.
pub(super) struct Host {
    rules: Admission,
    pins: PathBuf,
    stopped: Option<StopMark>,
    /// The mode that the daemon begins in where nothing is pinned.
    mode: Mode,
}

/// What the kernel does with a VM that nobody has judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its frames go on: verdicts are not carried out.
    Observed,
    /// It is mute.
    Gated,
    /// Its frames go on, since nothing is in force of what should be.
    Open,
}

impl Host {
    /// Where the configuration cannot be read, only the kernel says what is in force.
    pub(super) fn new(config: Option<&Config>, pins: PathBuf) -> Self {
        Self {
            rules: config.map(|config| config.admission.clone()).unwrap_or_default(),
            pins,
            stopped: config.map(|config| StopMark::new(&config.paths.state)),
            mode: config.map_or(Mode::Observe, first_mode),
        }
    }

    /// Asks the daemon once.
    pub(super) fn tell(&self, socket: &Path, request: Request) -> Result<Reply, String> {
        let asked = Client::connect(socket, self.rules.timeout + SLACK)
            .and_then(|mut client| client.call(request));
        asked.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    /// Asks the daemon; where it is away, until it is back or there is no use in waiting.
    pub(super) fn ask(&self, socket: &Path, request: &Request) -> Result<Reply, String> {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = Client::connect(socket, self.rules.timeout + SLACK)
                .and_then(|mut client| client.call(request.clone()));
            let error = match asked {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let left = self.rules.timeout.saturating_sub(began.elapsed());
            if left.is_zero() || !is_away(&error) || !self.may_come_back() {
                return Err(format!("{:#}", anyhow::Error::from(error)));
            }
            wait(pause.min(left));
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Whether a daemon that is away may be back in time, and is needed: a daemon that lives is about to
    /// answer; one that has ended by itself is started again by whoever looks after it; one that was told
    /// to end may have been told to start again, but only so long ago.
    fn may_come_back(&self) -> bool {
        let age = self.stopped.as_ref().and_then(StopMark::age);
        let comes = age.is_none_or(|age| age < RESTART) || holder(&self.pins).is_some();
        comes && self.standing() != Standing::Observed
    }

    /// As the kernel says, or where nothing is pinned what was confirmed or configured.
    fn standing(&self) -> Standing {
        match (Inspector::enforces(&self.pins), self.mode) {
            (Ok(Some(true)), _) => Standing::Gated,
            // Pinned, but by another release.
            (Err(_), Mode::Enforce) => Standing::Gated,
            (Ok(None), Mode::Enforce) => Standing::Open,
            (Ok(Some(false)), _) | (Ok(None) | Err(_), Mode::Observe) => Standing::Observed,
        }
    }

    /// Whether a VM starts that nobody judges, and in words.
    pub(super) fn unjudged(&self) -> (bool, &'static str) {
        match (self.standing(), self.rules.on_timeout) {
            (Standing::Observed, _) => (true, "starts unjudged (mode is observe)"),
            (Standing::Gated, OnRefusal::Mute) => (true, "starts mute"),
            (Standing::Gated, OnRefusal::Refuse) => (false, "may not start (admission.on_timeout)"),
            // After a restart of the host, before the daemon has run.
            (Standing::Open, _) => {
                (false, "may not start, since nothing in the kernel keeps it mute")
            }
        }
    }
}

/// The mode that was confirmed last, or else the configured one.
fn first_mode(config: &Config) -> Mode {
    match ModeFile::new(&config.paths.state).read() {
        Ok(Some(kept)) => kept.mode,
        Ok(None) | Err(_) => config.mode,
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing tells that a daemon listens again")]
fn wait(pause: Duration) {
    thread::sleep(pause);
}

/// Whether nobody is there, so that somebody may come; not whether somebody has answered, or is too slow.
fn is_away(error: &CallError) -> bool {
    match error {
        CallError::Unreachable { source, .. } => {
            matches!(source.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
        }
        CallError::Broken(source) => matches!(
            source.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
        CallError::Refused(refused) => {
            matches!(refused.code, ErrorCode::Unavailable | ErrorCode::Busy)
        }
        CallError::Unintelligible(_) => false,
    }
}
