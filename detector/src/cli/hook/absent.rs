//! A daemon that does not answer: whether a start waits for it, and what becomes of the start.

use std::{
    io::ErrorKind,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    api::{CallError, Client, ErrorCode, Reply, Request},
    bpf::holder,
    cli::{
        Global,
        standing::{Ground, Standing},
    },
    config::{Admission, Config, OnRefusal},
    inventory::xml::plugs::{Plugs, plugs},
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
    stopped: Option<StopMark>,
    ground: Ground,
    /// Where the VM is plugged in; unless that is known it may be anywhere.
    plugs: Option<Plugs>,
}

impl Host {
    pub(super) fn new(global: &Global, config: Option<&Config>) -> Self {
        Self {
            rules: config.map(|config| config.admission.clone()).unwrap_or_default(),
            stopped: config.map(|config| StopMark::new(&config.paths.state)),
            ground: Ground::new(global, config),
            plugs: None,
        }
    }

    /// Goes by what the description says.
    pub(super) fn learn(&mut self, xml: &str) {
        self.plugs = plugs(xml);
    }

    fn standing(&self) -> Standing {
        self.ground.standing(self.plugs.as_ref())
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
        let comes = age.is_none_or(|age| age < RESTART) || holder(self.ground.pins()).is_some();
        comes && !matches!(self.standing(), Standing::Observed | Standing::Off)
    }

    /// Whether a VM starts that nobody judges, and in words.
    pub(super) fn unjudged(&self) -> (bool, &'static str) {
        match (self.standing(), self.rules.on_timeout) {
            (Standing::Observed, _) => (true, "starts unjudged (mode is observe)"),
            (Standing::Gated, OnRefusal::Mute) => (true, "starts mute"),
            (Standing::Gated, OnRefusal::Refuse) => (false, "may not start (admission.on_timeout)"),
            (Standing::Off, _) => {
                (true, "starts unguarded (detector.off is on the kernel's command line)")
            }
            // After a restart of the host, before the daemon has run; or on a bridge that it has not seen.
            (Standing::Open(_), _) => {
                (false, "may not start, since nothing in the kernel keeps it mute")
            }
        }
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
