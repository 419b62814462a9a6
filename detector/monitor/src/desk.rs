//! What everybody who looks shares: the estate as it is now, and whom to ask for more.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use detector_core::{
    api::{Reply, Request},
    fleet::message::Time,
};
use ipnet::IpNet;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};
use uuid::Uuid;

use crate::{
    correlate::{Correlation, Settling, correlate},
    estate::{Estate, News, Told},
    history::{History, Sample},
    source::{AskError, Question, Source},
};

/// Pieces of news that wait; who tells more waits.
const BACKLOG: usize = 1024;
/// How often it is looked what follows from what is known.
const TURN: Duration = Duration::from_secs(1);

/// One for the whole process.
pub struct Desk {
    source: Arc<dyn Source>,
    apart: Vec<IpNet>,
    settle: u32,
    estate: RwLock<Estate>,
    correlations: Mutex<Vec<(Correlation, Time)>>,
    history: Mutex<History>,
    changed: watch::Sender<u64>,
}

impl Desk {
    /// `settle` is for how many seconds hosts have to say the same before it counts.
    pub fn new(source: Arc<dyn Source>, apart: Vec<IpNet>, settle: u32) -> Arc<Self> {
        Arc::new(Self {
            source,
            apart,
            settle,
            estate: RwLock::default(),
            correlations: Mutex::default(),
            history: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    /// Keeps it up to date for as long as the process lives.
    pub async fn keep(self: Arc<Self>) {
        let (told, mut heard) = mpsc::channel(BACKLOG);
        let follower = Arc::clone(&self);
        let following = tokio::spawn(async move { follower.source.follow(told).await });
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut settling, mut is_new) = (Settling::new(self.settle), false);
        loop {
            tokio::select! {
                told = heard.recv() => match told {
                    Some(told) => is_new |= self.take(told),
                    None => break,
                },
                _ = turns.tick() => {
                    is_new |= self.turn(&mut settling);
                    if std::mem::take(&mut is_new) {
                        self.changed.send_modify(|number| *number = number.wrapping_add(1));
                    }
                }
            }
        }
        following.abort();
    }

    /// Whether people see anything else by it.
    fn take(&self, told: Told) -> bool {
        let mut estate = self.estate.write().unwrap_or_else(PoisonError::into_inner);
        let is_whole = matches!(told, Told::Whole { .. });
        let before = is_whole.then(|| estate.clone());
        estate.apply(Time::now(), told);
        before.is_none_or(|before| differ(&before, &estate))
    }

    fn turn(&self, settling: &mut Settling) -> bool {
        let now = Time::now();
        let (found, sample) = {
            let estate = self.estate();
            (correlate(&estate, now, &self.apart), sample(&estate, now))
        };
        let found = settling.turn(now, found);
        lock(&self.history).take(sample);
        let mut known = lock(&self.correlations);
        let is_new = *known != found;
        *known = found;
        is_new
    }

    pub fn estate(&self) -> RwLockReadGuard<'_, Estate> {
        self.estate.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn correlations(&self) -> Vec<(Correlation, Time)> {
        lock(&self.correlations).clone()
    }

    pub fn history(&self) -> Vec<Sample> {
        lock(&self.history).samples().copied().collect()
    }

    pub fn fleet(&self) -> Option<&str> {
        self.source.fleet()
    }

    /// Counts up whenever there is something else to see.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What is on record of a VM, beyond what was told.
    pub async fn past(&self, host: &str, vm: Uuid) -> Vec<News> {
        self.source.past(host, vm).await
    }

    /// Asks a host that is known.
    ///
    /// # Errors
    ///
    /// It is not, does not answer, or refuses.
    pub async fn ask(
        &self,
        (host, who): (&str, &str),
        request: Request,
    ) -> Result<Reply, AskError> {
        self.ask_once(Uuid::new_v4(), (host, who), request).await
    }

    /// The same, of something that is to be done once however often it is asked.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn ask_once(
        &self,
        id: Uuid,
        (host, who): (&str, &str),
        request: Request,
    ) -> Result<Reply, AskError> {
        if !self.estate().hosts.contains_key(host) {
            return Err(AskError::NoHost(host.to_owned()));
        }
        let (host, who) = (host.to_owned(), who.to_owned());
        self.source.ask(Question { host, who, id, request }).await
    }
}

/// Whether people see a difference: that a host was heard of again a moment later is none.
fn differ(before: &Estate, after: &Estate) -> bool {
    let same = before.hosts.len() == after.hosts.len()
        && before.hosts.iter().zip(&after.hosts).all(|((name, one), (other, two))| {
            let shape = |host: &crate::estate::Host| {
                let state = host.state.as_ref();
                state.map(|state| (state.mode.clone(), state.ports.clone(), state.troubles.clone()))
            };
            name == other
                && one.findings().eq(two.findings())
                && one.lost == two.lost
                && shape(one) == shape(two)
                && one.vms().eq(two.vms())
        });
    !same
}

fn sample(estate: &Estate, at: Time) -> Sample {
    let (mut vms, mut cut_off) = (0, 0);
    for (_, vm) in estate.vms() {
        vms += 1;
        cut_off += u64::from(matches!(vm.status.as_str(), "quarantined" | "denied"));
    }
    let silent = estate.hosts.values().filter(|host| host.is_silent(at) || host.lost.is_some());
    Sample {
        at,
        vms,
        cut_off,
        findings: estate.findings().filter(|(_, finding)| !finding.settled).count() as u64,
        silent: silent.count() as u64,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
