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
        oneshot, watch,
    },
    task::{JoinHandle, LocalSet, spawn_local},
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
    fleet::speech::Speech,
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
    configured: watch::Sender<config::Alerts>,
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
    pub(crate) fn spawn(
        config: &config::Alerts,
        (state, fleet): (&Path, Option<Speech>),
        tell: impl Fn(ToBrain) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (told, inbox) = mpsc::channel(BACKLOG);
        let (asked, requests) = mpsc::channel(ASKED);
        let missed = Arc::new(AtomicBool::new(false));
        let (configured, wanted) = watch::channel(config.clone());
        let path = state.join("outbox.db");
        let alerts = Self { told, asked, configured, missed: Arc::clone(&missed) };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("alerts-blocking")
            .max_blocking_threads(32)
            .build()?;
        thread::Builder::new().name("alerts".to_owned()).spawn(move || {
            let work = work((wanted, fleet), &path, inbox, requests, &missed, &tell);
            LocalSet::new().block_on(&runtime, work);
        })?;
        Ok(alerts)
    }

    /// Tells of a change; never waits. What finds no room is found again in what is open.
    pub fn tell(&self, change: Change) {
        self.send(Told::Change(change));
    }

    /// From now on alerts go out as this says.
    pub fn configure(&self, config: config::Alerts) {
        self.configured.send_replace(config);
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
    (mut wanted, fleet): (watch::Receiver<config::Alerts>, Option<Speech>),
    path: &Path,
    mut inbox: mpsc::Receiver<Told>,
    mut requests: mpsc::Receiver<Asked>,
    missed: &AtomicBool,
    tell: &dyn Fn(ToBrain) -> bool,
) {
    let config = wanted.borrow_and_update().clone();
    let fleet = fleet.as_ref();
    let Some(desk) = open(&config, path, fleet) else { return };
    let desk = Rc::new(RefCell::new(desk));
    let mut couriers = send_out(&desk, config.timeout);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was open when the daemon ended and is not any more is over; it takes a while to be sure.
    let (mut settles, mut ticked) = (Some(Instant::now() + config.settle), 0u64);
    let mut news = news::Teller::new(config.overdue);
    loop {
        tokio::select! {
            // What is told after another configuration was given goes out by that one.
            biased;
            Ok(()) = wanted.changed() => {
                // What one of them is delivering now is delivered again.
                couriers.iter().for_each(JoinHandle::abort);
                let config = wanted.borrow_and_update().clone();
                reconnect(&mut desk.borrow_mut(), &config, fleet);
                couriers = send_out(&desk, config.timeout);
                news = news::Teller::new(config.overdue);
            }
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
            Some(asked) = requests.recv() => answer::answer(&desk, asked),
            told = inbox.recv() => {
                let Some(told) = told else { return };
                let now = Timestamp::now();
                match told {
                    Told::Change(change) => desk.borrow_mut().take(&change, now),
                    Told::All(findings) => desk.borrow_mut().take_all(&findings, now),
                }
            }
        }
        news.tell(&mut desk.borrow_mut(), tell);
    }
}

/// Starts a courier for each receiver.
fn send_out(desk: &Rc<RefCell<Desk>>, timeout: Duration) -> Vec<JoinHandle<()>> {
    let routes = 0..desk.borrow().routes.len();
    routes.map(|route| spawn_local(courier::run(Rc::clone(desk), route, timeout))).collect()
}

fn reconnect(desk: &mut Desk, config: &config::Alerts, fleet: Option<&Speech>) {
    let sinks = Sink::all(config, &desk.origin, fleet);
    desk.connect(sinks);
    desk.outbox.limit(u64::from(config.outbox_mib) << 20);
    let names: Vec<_> = desk.routes.iter().map(|route| route.sink.name.as_str()).collect();
    tracing::info!(receivers = ?names, "alerts: they go out as it is configured now");
}

fn open(config: &config::Alerts, path: &Path, fleet: Option<&Speech>) -> Option<Desk> {
    let origin = Arc::new(Origin::here());
    let sinks = Sink::all(config, &origin, fleet);
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

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, time::Instant};

    use detector_core::model::{FindingKey, FindingKind, Severity, Subject};

    use super::*;

    fn finding(number: u32) -> Finding {
        let subject = Subject::Port { ifindex: number, instance: 1 };
        Finding {
            key: FindingKey { kind: FindingKind::UnknownPort, subject },
            severity: Severity::High,
            title: format!("finding {number}."),
            evidence: Vec::new(),
            next: None,
            since: detector_core::model::Timestamp(u64::from(number)),
        }
    }

    fn config(sinks: &[(&str, PathBuf)]) -> config::Alerts {
        let sink = |(name, path): &(&str, PathBuf)| {
            format!("[[alerts.file]]\nname = {name:?}\npath = {path:?}\n")
        };
        let text: String = sinks.iter().map(sink).collect();
        config::Config::parse(&text, Path::new("test")).unwrap().alerts
    }

    /// Which findings a file has, in order.
    fn told(path: &Path) -> Vec<u32> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let number = |line: &str| {
            (1..10).find(|number| line.contains(&format!("finding {number}."))).unwrap_or_default()
        };
        text.lines().map(number).collect()
    }

    fn await_told(path: &Path, expect: &[u32]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        // What was being delivered may be there twice.
        while !told(path).ends_with(expect) {
            assert!(Instant::now() < deadline, "{}: {:?}", path.display(), told(path));
            thread::yield_now();
        }
    }

    /// Receivers come, go and change, and what waits for one goes by its name.
    #[test]
    fn another_configuration_holds_at_once_and_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let first = config(&[("a", at("a")), ("late", at("nowhere/late")), ("gone", at("gone"))]);
        let alerts = Alerts::spawn(&first, (directory.path(), None), |_| true).unwrap();
        alerts.tell(Change::Opened(finding(1)));
        await_told(&at("a"), &[1]);
        await_told(&at("gone"), &[1]);

        let moved = [("a", at("moved")), ("late", at("nowhere/late")), ("b", at("b"))];
        alerts.configure(config(&moved));
        alerts.tell(Change::Opened(finding(2)));
        for name in ["moved", "b"] {
            await_told(&at(name), &[2]);
        }
        // Where it could not be delivered it waits, and its receiver is tried at once when it is mended.
        let mended = [("late", at("late")), ("b", at("b"))];
        alerts.configure(config(&mended));
        await_told(&at("late"), &[1, 2]);
        alerts.tell(Change::Opened(finding(3)));
        await_told(&at("late"), &[1, 2, 3]);
        await_told(&at("b"), &[2, 3]);
        for name in ["a", "gone"] {
            assert_eq!(told(&at(name)), [1], "{name}");
        }
        assert!(!told(&at("moved")).contains(&3));
    }
}
