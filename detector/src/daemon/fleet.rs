//! This host as one of a fleet: what it tells of itself, what it is asked, and which bundles it takes.
//!
//! Nothing in force depends on any of it. Commands go the way of the socket's, with the role that is configured and in
//! the name of whoever asks; a bundle that is taken is read as a reload reads everything.

mod bundles;
mod commands;
mod records;
mod report;

use std::{io, sync::Arc, time::Duration};

use detector_core::model::{FleetStanding, Timestamp, Told};
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{input::Input, itself::Itself};
use crate::{
    audit::{Place, Writer},
    clock,
    config::Config,
    fleet::{
        speech::{Process, Speech},
        store::Store,
        words::News,
    },
};

/// News that wait; whoever floods waits in turn.
const BACKLOG: usize = 64;
/// So long the connection may be away before that is worth a word.
const GRACE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// Refusals of one sort are on record once in this time.
const PACE: Duration = Duration::from_secs(60);
/// For so long a message that is not read is told of.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

/// The connection, before anybody listens to it.
pub(super) struct Line {
    pub(super) speech: Speech,
    news: mpsc::Receiver<News>,
}

impl Line {
    /// Listens to the process from now on.
    pub(super) fn open(config: &Config, process: Option<Process>) -> io::Result<Option<Self>> {
        let (Some(process), Some((fleet, host))) = (process, config.fleet.names()) else {
            return Ok(None);
        };
        let (tell, news) = mpsc::channel(BACKLOG);
        let speech = process
            .follow((fleet.clone(), host.clone()), move |news| tell.blocking_send(news).is_ok())?;
        Ok(Some(Self { speech, news }))
    }

    /// Starts all that is done for the fleet, for as long as the daemon lives.
    pub(super) fn serve(
        self,
        config: &Config,
        itself: &Itself,
        audit: &Writer,
        inputs: mpsc::Sender<Input>,
    ) {
        let Some(store) = Store::new(config).map(Arc::new) else { return };
        let Self { speech, news } = self;
        let standing = Standing { told: Arc::default(), inputs };
        let (again, connected) = watch::channel(());
        tokio::spawn(report::keep_telling(
            (config.fleet.interval, connected.clone()),
            speech.clone(),
            itself.clone(),
            (Arc::clone(&store), standing.clone()),
        ));
        let place = Place::new(&config.paths.state);
        tokio::spawn(records::keep_sending(
            (config.fleet.interval, connected.clone()),
            speech.clone(),
            (place.database, config.paths.state.join("fleet")),
        ));
        let commands = commands::Commands::new(config, itself, audit, &speech);
        let bundles =
            bundles::Bundles::new(store, &speech, itself.clone(), standing.clone(), audit);
        let lost = Some(Absence::begin("it has not been reached yet"));
        let listener = Listener { again, commands, bundles, standing, lost };
        tokio::spawn(listener.listen(news));
    }
}

/// Whoever listens to what comes from the fleet.
struct Listener {
    /// That there is a new connection.
    again: watch::Sender<()>,
    commands: commands::Commands,
    bundles: bundles::Bundles,
    standing: Standing,
    lost: Option<Absence>,
}

/// There is no connection.
struct Absence {
    begun: Instant,
    since: Timestamp,
    why: String,
}

impl Absence {
    fn begin(why: &str) -> Self {
        Self { begun: Instant::now(), since: clock::now(), why: why.to_owned() }
    }
}

impl Listener {
    async fn listen(mut self, mut news: mpsc::Receiver<News>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tick().await,
                said = news.recv() => match said {
                    Some(said) => self.take(said).await,
                    None => return,
                },
            }
        }
    }

    /// What time alone changes.
    async fn tick(&mut self) {
        self.bundles.tick().await;
        let lost = self.lost.as_ref().filter(|lost| lost.begun.elapsed() >= GRACE);
        let lost = lost.map(|lost| Told { since: lost.since, what: lost.why.clone() });
        let now = clock::now();
        self.standing
            .change(|standing| {
                standing.lost = lost;
                standing.unread.take_if(|told| now.since(told.since) >= REMEMBERED);
            })
            .await;
    }

    async fn take(&mut self, news: News) {
        match news {
            News::Linked => {
                tracing::info!("fleet: connected");
                self.lost = None;
                self.standing.change(|standing| standing.lost = None).await;
                // What was said before may have been lost with the server.
                self.again.send_replace(());
            }
            News::Lost(why) => {
                tracing::warn!(why, "fleet: not connected");
                match &mut self.lost {
                    Some(lost) => lost.why = why,
                    None => self.lost = Some(Absence::begin(&why)),
                }
            }
            News::Unread(why) => {
                tracing::warn!(why, "fleet: something came that is not read");
                let now = clock::now();
                self.standing
                    .change(|standing| {
                        // More of the same is the same trouble.
                        let since = standing.unread.as_ref().map_or(now, |before| before.since);
                        standing.unread = Some(Told { since, what: why });
                    })
                    .await;
            }
            News::Command { ticket, from, command } => {
                self.commands.take(ticket, from, command).await;
            }
            News::Announced(announcement) => self.bundles.announced(announcement).await,
            News::Bundle { version, file } => self.bundles.arrived(version, file).await,
            // Whoever waits for it has heard already.
            News::Done { .. } => {}
        }
    }
}

/// How this host stands with its fleet, which the brain makes findings of.
#[derive(Clone)]
struct Standing {
    told: Arc<Mutex<FleetStanding>>,
    inputs: mpsc::Sender<Input>,
}

impl Standing {
    /// Changes it, and tells the brain where that makes a difference.
    async fn change(&self, change: impl FnOnce(&mut FleetStanding)) {
        let mut told = self.told.lock().await;
        let before = told.clone();
        change(&mut told);
        if *told != before {
            let _ = self.inputs.send(Input::Fleet(told.clone())).await;
        }
    }

    async fn now(&self) -> FleetStanding {
        self.told.lock().await.clone()
    }
}

/// Something that others can have happen as often as they like, and that is put on record once in a while.
#[derive(Default)]
struct Paced {
    at: Option<Instant>,
    between: u64,
}

impl Paced {
    /// How many there have been since the last that was recorded, where this one is to be.
    fn due(&mut self) -> Option<u64> {
        if self.at.is_some_and(|at| at.elapsed() < PACE) {
            self.between += 1;
            return None;
        }
        self.at = Some(Instant::now());
        Some(std::mem::take(&mut self.between))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_repeat_is_on_record_once_in_a_while_and_counted() {
        let mut paced = Paced::default();
        assert_eq!(paced.due(), Some(0));
        for _ in 0..1000 {
            assert_eq!(paced.due(), None);
        }
        paced.at = Instant::now().checked_sub(PACE);
        assert_eq!((paced.due(), paced.due()), (Some(1000), None));
    }
}
