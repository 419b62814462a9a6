//! What the service manager is told (sd_notify(3)), where one waits for it.

use std::{
    io,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::Instant;

/// Words that wait for a service manager that does not listen; more are lost.
const BACKLOG: usize = 16;
/// A sentence is told at most this often.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells the service manager. A thread passes the words on, so that a service manager which hangs holds
/// nothing up; it says nothing by itself, so that the watchdog hears of a loop that hangs.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    words: Option<SyncSender<Word>>,
}

#[derive(Debug)]
enum Word {
    Ready,
    Reloading,
    Alive,
    Status(String),
}

impl Supervisor {
    /// Whoever has started this process, where it waits for words.
    pub(super) fn of_this_process() -> io::Result<Self> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Self { words: None });
        }
        let (words, heard) = sync_channel(BACKLOG);
        thread::Builder::new().name("notify".to_owned()).spawn(move || {
            for word in heard {
                pass_on(&word);
            }
        })?;
        Ok(Self { words: Some(words) })
    }

    /// What was known at the start, or is known anew, is in force.
    pub(super) fn ready(&self) {
        self.say(Word::Ready);
    }

    pub(super) fn reloading(&self) {
        self.say(Word::Reloading);
    }

    fn say(&self, word: Word) {
        if let Some(words) = &self.words {
            // Who does not listen for sixteen words hears the next ones.
            let _ = words.try_send(word);
        }
    }

    /// The daemon ends, in a moment.
    pub(super) fn stopping() {
        tell(&[NotifyState::Stopping]);
    }
}

/// The loop's own word that it goes on, and what is the case.
#[derive(Debug)]
pub(super) struct Pulse {
    supervisor: Supervisor,
    /// How often the loop has to say that it goes on; `None` where nobody asks.
    every: Option<Duration>,
    said: Instant,
    told: String,
    told_at: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(supervisor: Supervisor) -> Self {
        // Twice as often as asked is the custom; a busy host may need more.
        let every = sd_notify::watchdog_enabled().map(|within| within / 4);
        Self { supervisor, every, said: Instant::now(), told: String::new(), told_at: None }
    }

    /// Says that the loop has gone round, at `now`.
    pub(super) fn beat(&mut self, now: Instant, status: impl FnOnce() -> String) {
        if self.supervisor.words.is_none() {
            return;
        }
        if self.every.is_some_and(|every| now >= self.said + every) {
            self.said = now;
            self.supervisor.say(Word::Alive);
        }
        if self.told_at.is_none_or(|at| now >= at + PAUSE) {
            self.told_at = Some(now);
            let status = status();
            if status != self.told {
                self.supervisor.say(Word::Status(status.clone()));
                self.told = status;
            }
        }
    }
}

fn pass_on(word: &Word) {
    match word {
        Word::Ready => tell(&[NotifyState::Ready]),
        Word::Reloading => match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "cannot tell the service manager of a reload"),
        },
        Word::Alive => tell(&[NotifyState::Watchdog]),
        Word::Status(status) => tell(&[NotifyState::Status(status)]),
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
