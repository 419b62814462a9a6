//! Reads that whoever is read can delay.
//!
//! To read the memory or the file of a process may make the kernel ask a file system in user space
//! (FUSE), which answers when it likes. Such work is done on a thread that is left behind when it
//! takes too long; how many may be left behind is bounded for each user, so that nobody's delays
//! take what the processes of others are looked into with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

/// How long a read may take.
const LIMIT: Duration = Duration::from_secs(3);
/// Threads that are left behind for one user, and for all.
const OF_ONE_USER: usize = 2;
const OF_ALL: usize = 64;

/// The states of a job.
const RUNS: u8 = 0;
const DONE: u8 = 1;
const LATE: u8 = 2;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug, Default)]
pub(super) struct Patience {
    worker: Option<Sender<Job>>,
    /// Threads left behind, by the user whose process they wait for.
    behind: BTreeMap<u32, Arc<AtomicUsize>>,
}

/// It took too long, or others of the same user already do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stalled;

impl Patience {
    /// Does some work on a process of the user, for as long as that may take.
    pub(super) fn run<T: Send + 'static>(
        &mut self,
        uid: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stalled> {
        self.behind.retain(|_, count| count.load(Ordering::Relaxed) > 0);
        let all: usize = self.behind.values().map(|count| count.load(Ordering::Relaxed)).sum();
        let behind = self.behind.get(&uid).map_or(0, |count| count.load(Ordering::Relaxed));
        if behind >= OF_ONE_USER || all >= OF_ALL {
            return Err(Stalled);
        }
        let behind = Arc::clone(self.behind.entry(uid).or_default());
        let state = Arc::new(AtomicU8::new(RUNS));
        let (answer, answers) = sync_channel(1);
        let (late, its) = (Arc::clone(&behind), Arc::clone(&state));
        let job: Job = Box::new(move || {
            // Nobody may be waiting any more.
            let _ = answer.send(work());
            if its.swap(DONE, Ordering::AcqRel) == LATE {
                late.fetch_sub(1, Ordering::Relaxed);
            }
        });
        let worker = match self.worker.take().map_or_else(start, Ok) {
            Ok(worker) => worker,
            Err(error) => {
                tracing::warn!(%error, "processes: cannot start a thread to read with");
                return Err(Stalled);
            }
        };
        if worker.send(job).is_err() {
            return Err(Stalled);
        }
        match answers.recv_timeout(LIMIT) {
            Ok(answer) => {
                self.worker = Some(worker);
                Ok(answer)
            }
            Err(RecvTimeoutError::Timeout) => {
                // Without its sender the worker ends when the read does.
                behind.fetch_add(1, Ordering::Relaxed);
                if state.swap(LATE, Ordering::AcqRel) == DONE {
                    behind.fetch_sub(1, Ordering::Relaxed);
                }
                Err(Stalled)
            }
            // The work has broken, and its thread with it.
            Err(RecvTimeoutError::Disconnected) => Err(Stalled),
        }
    }
}

fn start() -> std::io::Result<Sender<Job>> {
    let (jobs, work) = channel::<Job>();
    thread::Builder::new().name("reader".to_owned()).spawn(move || {
        for job in work {
            job();
        }
    })?;
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn whoever_stalls_stalls_only_themselves() {
        let mut patience = Patience::default();
        assert_eq!(patience.run(1, || 7), Ok(7));
        let mut gates = Vec::new();
        for _ in 0..OF_ONE_USER {
            let (open, gate) = channel::<()>();
            gates.push(open);
            assert_eq!(patience.run(1, move || gate.recv().is_ok()), Err(Stalled));
        }
        // The user's own are refused without waiting, those of others are served.
        assert_eq!(patience.run(1, || 7), Err(Stalled));
        assert_eq!(patience.run(2, || 7), Ok(7));
        drop(gates);
        let counted = Arc::clone(&patience.behind[&1]);
        while counted.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        assert_eq!(patience.run(1, || 7), Ok(7));
    }
}
