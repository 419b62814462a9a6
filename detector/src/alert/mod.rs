//! Alerts: findings, on their way to people.
//!
//! One thread has them all: it makes alerts out of what the brain tells (`desk`), keeps what waits on the
//! disk (`outbox`), and has a task for each receiver (`courier`, `sink`). Nothing waits for it: the brain
//! hands over what it has to tell and goes on, and a receiver that hangs holds up its own alerts only.
//! All of it is outgoing; nothing listens.

mod answer;
mod courier;
mod desk;
pub mod host;
mod news;
pub mod notice;
pub mod ocsf;
mod outbox;
mod rows;
pub mod sink;
mod state;
mod tables;
pub mod text;

use std::{
    cell::RefCell,
    io,
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use detector_core::model::Finding;
use jiff::Timestamp;
use tokio::{
    runtime::Builder,
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::{LocalSet, spawn_local},
    time::{Instant, MissedTickBehavior, interval},
};

use self::{
    desk::Desk,
    host::Origin,
    outbox::{Began, Outbox},
    sink::Sink,
};
use crate::{
    api::{ApiError, ErrorCode, Reply, Request},
    config,
    findings::Change,
};

pub use news::News;

/// Changes that wait to be taken in.
const BACKLOG: usize = 4096;
/// Requests of operators that wait.
const ASKED: usize = 16;
/// How often what is due is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Every so many ticks a disk that has failed is tried again.
const SAVE: u64 = 5;

/// The other end of the thread that has the alerts.
#[derive(Clone, Debug)]
pub struct Alerts {
    told: mpsc::Sender<Told>,
    asked: mpsc::Sender<Asked>,
    /// Something was not taken in.
    missed: Arc<AtomicBool>,
}

/// What the brain tells.
#[derive(Debug)]
enum Told {
    Change(Change),
    /// Everything that is open.
    All(Vec<Finding>),
}

#[derive(Debug)]
struct Asked {
    uid: u32,
    request: Request,
    answer: oneshot::Sender<Result<Reply, ApiError>>,
}

/// What the brain is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToBrain {
    News(News),
    /// It is to tell everything that is open.
    TellAll,
}

impl Alerts {
    /// Starts the thread. `tell` hands something to the brain, and says whether it was taken; it never
    /// waits.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn spawn(
        config: &config::Alerts,
        state: &Path,
        tell: impl Fn(ToBrain) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (told, inbox) = mpsc::channel(BACKLOG);
        let (asked, requests) = mpsc::channel(ASKED);
        let missed = Arc::new(AtomicBool::new(false));
        let (config, path) = (config.clone(), state.join("outbox.db"));
        let alerts = Self { told, asked, missed: Arc::clone(&missed) };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("alerts-blocking")
            .max_blocking_threads(32)
            .build()?;
        thread::Builder::new().name("alerts".to_owned()).spawn(move || {
            let work = work(&config, &path, inbox, requests, &missed, &tell);
            LocalSet::new().block_on(&runtime, work);
        })?;
        Ok(alerts)
    }

    /// Tells of a change; never waits. What finds no room is found again in what is open.
    pub fn tell(&self, change: Change) {
        self.send(Told::Change(change));
    }

    /// Tells everything that is open.
    pub fn tell_all(&self, findings: Vec<Finding>) {
        self.send(Told::All(findings));
    }

    fn send(&self, told: Told) {
        match self.told.try_send(told) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.missed.store(true, Ordering::Relaxed),
            Err(TrySendError::Closed(_)) => tracing::error!("alerts: nobody is left to send them"),
        }
    }

    /// Asks about alerts, or changes what is said of findings, for the user `uid`.
    pub async fn ask(&self, uid: u32, request: Request) -> Result<Reply, ApiError> {
        let (answer, answered) = oneshot::channel();
        let gone =
            || ApiError::new(ErrorCode::Unavailable, "nobody is left to send alerts: see the log");
        self.asked.send(Asked { uid, request, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn work(
    config: &config::Alerts,
    path: &Path,
    mut inbox: mpsc::Receiver<Told>,
    mut requests: mpsc::Receiver<Asked>,
    missed: &AtomicBool,
    tell: &dyn Fn(ToBrain) -> bool,
) {
    let Some(desk) = open(config, path) else { return };
    let desk = Rc::new(RefCell::new(desk));
    let routes = desk.borrow().routes.len();
    for route in 0..routes {
        spawn_local(courier::run(Rc::clone(&desk), route, config.timeout));
    }
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was open when the daemon ended and is not any more is over; it takes a while to be sure.
    let (mut settles, mut ticked) = (Some(Instant::now() + config.settle), 0u64);
    let mut news = news::Teller::new(config.overdue);
    loop {
        tokio::select! {
            told = inbox.recv() => {
                let Some(told) = told else { return };
                let now = Timestamp::now();
                match told {
                    Told::Change(change) => desk.borrow_mut().take(&change, now),
                    Told::All(findings) => desk.borrow_mut().take_all(&findings, now),
                }
            }
            Some(asked) = requests.recv() => answer::answer(&desk, asked),
            _ = ticks.tick() => {
                ticked += 1;
                let mut desk = desk.borrow_mut();
                desk.tick(Timestamp::now());
                let Desk { outbox, state, .. } = &mut *desk;
                if ticked.is_multiple_of(SAVE) {
                    outbox.save(state);
                }
                let settled = settles.is_some_and(|at| at <= Instant::now());
                if settled || missed.swap(false, Ordering::Relaxed) {
                    match tell(ToBrain::TellAll) {
                        true => settles = settles.filter(|_| !settled),
                        false => missed.store(true, Ordering::Relaxed),
                    }
                }
            }
        }
        news.tell(&mut desk.borrow_mut(), tell);
    }
}

fn open(config: &config::Alerts, path: &Path) -> Option<Desk> {
    let origin = Arc::new(Origin::here());
    let sinks = Sink::all(config, &origin);
    match Outbox::open(path, u64::from(config.outbox_mib) << 20) {
        Ok(Began { outbox, state, set_aside }) => {
            if let Some(aside) = set_aside {
                let (path, why) = (aside.path.display(), &aside.why);
                tracing::error!(%path, why, "alerts: the outbox was damaged, and is set aside");
            }
            if let Some(why) = outbox.trouble() {
                tracing::error!(why, "alerts: they are not kept over a restart for now");
            }
            Some(Desk::new(outbox, state, sinks, origin))
        }
        Err(error) => {
            tracing::error!(%error, "alerts: there is no memory for them");
            None
        }
    }
}
