//! The daemon's end: the process that speaks to the fleet, and what waits for its answer.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Write},
    process::{ChildStdin, ChildStdout},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use detector_core::fleet::{
    Name,
    message::{Refused, seal},
};
use serde::Serialize;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};
use uuid::Uuid;

use super::words::{News, Place, Want};
use crate::{
    config::Config,
    part::{self, Said},
};

/// Wants that wait to be written down for the process.
const BACKLOG: usize = 256;
/// How long the fleet may take to keep something.
const PATIENCE: Duration = Duration::from_secs(15);

/// The process that speaks to the fleet, which nobody listens to yet.
pub(crate) struct Process {
    input: ChildStdin,
    output: ChildStdout,
}

/// By this anybody in the daemon says something to the fleet.
#[derive(Clone, Debug)]
pub(crate) struct Speech {
    fleet: Name,
    host: Name,
    wants: mpsc::Sender<Want>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    linked: AtomicBool,
    tickets: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Result<(), String>>>>,
    /// That something has happened to a finding.
    happened: Notify,
}

/// Why something was not said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsaid {
    /// It can be tried again.
    #[error("{0}")]
    Later(String),
    /// It cannot be said at all.
    #[error("{0}")]
    Never(#[from] Refused),
}

impl Process {
    /// Starts it; `None` where the host is of no fleet.
    pub(crate) fn start(config: &Config, words: &[OsString]) -> io::Result<Option<Self>> {
        if config.fleet.names().is_none() {
            return Ok(None);
        }
        let (input, output) = part::start_of_fleet(words)?;
        Ok(Some(Self { input, output }))
    }

    /// Hands on what the fleet says, on a thread of its own, until nobody listens.
    pub(crate) fn follow(
        self,
        (fleet, host): (Name, Name),
        tell: impl Fn(News) -> bool + Send + 'static,
    ) -> io::Result<Speech> {
        let Self { mut input, output } = self;
        let (wants, mut wanted) = mpsc::channel::<Want>(BACKLOG);
        let shared = Arc::new(Shared::default());
        thread::Builder::new().name("fleet-wants".to_owned()).spawn(move || {
            while let Some(want) = wanted.blocking_recv() {
                let Ok(mut line) = serde_json::to_vec(&want) else { continue };
                line.push(b'\n');
                if input.write_all(&line).is_err() {
                    return;
                }
            }
        })?;
        let heard = Arc::clone(&shared);
        thread::Builder::new().name("fleet-news".to_owned()).spawn(move || {
            let mut lines = part::lines(output);
            while let Some(said) = part::hear::<Said<News>>(&mut lines) {
                let news = match said {
                    Said::Begun => continue,
                    Said::Ended(how) => {
                        let how = part::brief(&how);
                        tracing::warn!(how, "the process that speaks to the fleet");
                        News::Lost(format!("the process that speaks to it {how}"))
                    }
                    Said::Told(news) => news,
                };
                let news = heard.take_in(cut(news));
                if news.is_some_and(|news| !tell(news)) {
                    return;
                }
            }
            let why = "whoever starts the process that speaks to it has ended".to_owned();
            heard.take_in(News::Lost(why.clone()));
            tell(News::Lost(why));
        })?;
        Ok(Speech { fleet, host, wants, shared })
    }
}

/// The same with what is in it of free text no longer than a word of another process may be.
fn cut(news: News) -> News {
    let short = |why: String| part::brief(&why);
    match news {
        News::Lost(why) => News::Lost(short(why)),
        News::Unread(why) => News::Unread(short(why)),
        News::Done { ticket, result } => News::Done { ticket, result: result.map_err(short) },
        News::Bundle { version, file } => News::Bundle { version, file: file.map_err(short) },
        other @ (News::Linked | News::Command { .. } | News::Announced(_)) => other,
    }
}

impl Shared {
    /// Returns what is not only for whoever waits.
    fn take_in(&self, news: News) -> Option<News> {
        let waiting = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match news {
            News::Done { ticket, result } => {
                if let Some(waits) = waiting().remove(&ticket) {
                    let _ = waits.send(result);
                }
                None
            }
            News::Linked => {
                self.linked.store(true, Ordering::Relaxed);
                Some(News::Linked)
            }
            News::Lost(why) => {
                self.linked.store(false, Ordering::Relaxed);
                // Whoever waits hears that from the sender's going away.
                waiting().clear();
                Some(News::Lost(why))
            }
            other => Some(other),
        }
    }
}

impl Speech {
    pub(crate) fn fleet(&self) -> &Name {
        &self.fleet
    }

    pub(crate) fn host(&self) -> &Name {
        &self.host
    }

    /// Something has happened to a finding, of which whoever tells what is open may want to know.
    pub(crate) fn happened(&self) {
        self.shared.happened.notify_one();
    }

    /// Waits until something has happened to a finding since the last time that somebody has waited.
    pub(crate) async fn await_happening(&self) {
        self.shared.happened.notified().await;
    }

    /// Says something, and returns when the fleet keeps it.
    pub(crate) async fn put<Body: Serialize>(
        &self,
        place: Place,
        body: &Body,
        id: Option<Uuid>,
    ) -> Result<(), Unsaid> {
        let message = self.sealed(body)?;
        let later = |why: &str| Unsaid::Later(why.to_owned());
        if !self.shared.linked.load(Ordering::Relaxed) {
            return Err(later("there is no connection to the fleet"));
        }
        let ticket = self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let waiting = || self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting().insert(ticket, answer);
        let asked = async {
            let gone = || later("nobody is left who speaks to the fleet");
            let want = Want::Put { ticket, place, message, id };
            self.wants.send(want).await.map_err(|_| gone())?;
            answered.await.map_err(|_| later("the connection to the fleet was lost"))
        };
        let outcome = timeout(PATIENCE, asked).await;
        waiting().remove(&ticket);
        match outcome {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(why))) => Err(Unsaid::Later(why)),
            Ok(Err(unsaid)) => Err(unsaid),
            Err(_) => Err(later("the fleet has not answered in time")),
        }
    }

    /// Answers a command.
    pub(crate) async fn answer<Body: Serialize>(
        &self,
        ticket: u64,
        body: &Body,
    ) -> Result<(), Unsaid> {
        let message = self.sealed(body)?;
        self.want(Want::Answer { ticket, message }).await;
        Ok(())
    }

    /// Asks for a bundle, which comes as news.
    pub(crate) async fn fetch(&self, version: u64) {
        self.want(Want::Fetch { version }).await;
    }

    async fn want(&self, want: Want) {
        // Where nobody is left, that has been told; where nobody takes it, whoever waits for it asks again.
        let _ = timeout(PATIENCE, self.wants.send(want)).await;
    }

    fn sealed<Body: Serialize>(&self, body: &Body) -> Result<String, Refused> {
        let bytes = seal(&self.fleet, &self.host, body)?;
        String::from_utf8(bytes).map_err(|error| Refused::NoMessage(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_the_process_is_long_or_does_anything_to_a_terminal() {
        let long = || "\u{1b}[2J".repeat(100_000);
        let told = [
            News::Lost(long()),
            News::Unread(long()),
            News::Done { ticket: 1, result: Err(long()) },
            News::Bundle { version: 1, file: Err(long()) },
        ];
        for news in told {
            let text = format!("{:?}", cut(news));
            assert!(text.len() < 4096 && !text.contains('\u{1b}'), "{} bytes", text.len());
        }
    }
}
