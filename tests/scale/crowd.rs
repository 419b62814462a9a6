//! All hosts of a fleet, in one process.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use detector_tests::netns::NetNs;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};

use crate::speaker::{Order, Speaker, Terms};

/// Hosts that connect at the same time.
const AT_ONCE: usize = 64;

/// Hosts that are connected; all end with this value.
pub(crate) struct Crowd {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    took: Mutex<Receiver<Instant>>,
    failed: Arc<Mutex<Option<String>>>,
    /// Its threads are in the host.
    runtime: Runtime,
}

impl Crowd {
    /// Connects a host for each text of credentials, and returns when each has said everything.
    pub(crate) fn join(network: &NetNs, terms: Terms, credentials: Vec<String>) -> Result<Self> {
        let runtime = network
            .run(|| Ok(Builder::new_multi_thread().worker_threads(1).enable_all().build()?))?;
        let (took, heard) = channel();
        let mut crowd = Self {
            orders: Vec::with_capacity(credentials.len()),
            took: Mutex::new(heard),
            failed: Arc::default(),
            runtime,
        };
        let joined = crowd.begin(&Arc::new(terms), credentials, &took);
        for result in joined {
            result?;
        }
        Ok(crowd)
    }

    /// Begins the life of each host; the answer is how they have joined.
    fn begin(
        &mut self,
        terms: &Arc<Terms>,
        credentials: Vec<String>,
        took: &Sender<Instant>,
    ) -> Receiver<Result<()>> {
        let (tell, joined) = channel();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        for (number, credentials) in (0..).zip(credentials) {
            let (order, orders) = mpsc::unbounded_channel();
            self.orders.push(order);
            let (terms, room) = (Arc::clone(terms), Arc::clone(&room));
            let (tell, took, failed) = (tell.clone(), took.clone(), Arc::clone(&self.failed));
            self.runtime.spawn(async move {
                let place = room.acquire().await;
                let speaker = Speaker::join(number, &credentials, terms).await;
                drop(place);
                let speaker = match speaker.with_context(|| format!("host {number}")) {
                    Ok(speaker) => speaker,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                let _ = tell.send(Ok(()));
                drop(tell);
                if let Err(error) = speaker.live(orders, took).await {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert_with(|| format!("host {number}: {error:#}"));
                }
            });
        }
        joined
    }

    pub(crate) fn order(&self, host: usize, order: Order) -> Result<()> {
        self.check()?;
        self.orders[host].send(order).context("a host has ended")
    }

    /// How long after a moment each host went by the bundle that was offered then, sorted; waits for all.
    pub(crate) fn await_bundle(&self, since: Instant, patience: Duration) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(self.orders.len());
        let took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        while times.len() < self.orders.len() {
            let left = patience.saturating_sub(since.elapsed());
            let Ok(at) = took.recv_timeout(left) else {
                self.check()?;
                bail!("{} of {} hosts have it", times.len(), self.orders.len());
            };
            times.push(at.saturating_duration_since(since));
        }
        times.sort();
        Ok(times)
    }

    /// Whether every host is well so far.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(why) => bail!("{why}"),
        }
    }
}
