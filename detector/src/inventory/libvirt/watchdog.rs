//! Notices that a call to libvirt does not return.
//!
//! Keep-alive messages show that a connection is dead. They say nothing of a libvirt that answers them and
//! no call, or of a call that waits for one domain that is stuck.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Tells, once for each call, that it takes longer than it may.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    /// Called when such a call has returned after all.
    returned: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    change: Condvar,
}

#[derive(Default)]
struct State {
    call: Option<Call>,
    /// The thread waits for a call to begin.
    idle: bool,
    stop: bool,
}

struct Call {
    what: String,
    began: Instant,
    told: bool,
}

impl Watchdog {
    /// Starts to watch. `tell` gets why the source is lost, before the call returns; once it has
    /// returned, `returned` is called.
    pub(super) fn spawn(
        patience: Duration,
        tell: impl Fn(String) + Send + 'static,
        returned: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let watch = move || watched.watch(patience, &tell);
        thread::Builder::new().name("libvirt-watchdog".to_owned()).spawn(watch)?;
        Ok(Self { shared, returned: Box::new(returned) })
    }

    /// Makes a call, of which `what` says for people what libvirt is asked to do.
    pub(super) fn call<T>(&self, what: impl Into<String>, call: impl FnOnce() -> T) -> T {
        let mut state = self.shared.lock();
        state.call = Some(Call { what: what.into(), began: Instant::now(), told: false });
        // A thread that waits for the end of an earlier call's time finds this one then.
        if state.idle {
            self.shared.change.notify_one();
        }
        drop(state);
        let answer = call();
        // Whoever tells holds the lock, so that what is told of the answer comes after it.
        let ended = self.shared.lock().call.take();
        if ended.is_some_and(|call| call.told) {
            (self.returned)();
        }
        answer
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.change.notify_one();
    }
}

impl Shared {
    fn watch(&self, patience: Duration, tell: &dyn Fn(String)) {
        let mut state = self.lock();
        while !state.stop {
            let left = match &mut state.call {
                Some(call) if !call.told => {
                    let left = patience.saturating_sub(call.began.elapsed());
                    if left.is_zero() {
                        call.told = true;
                        let seconds = patience.as_secs_f32();
                        tell(format!(
                            "it has not answered for {seconds} s: asked to {}",
                            call.what
                        ));
                    }
                    Some(left)
                }
                _ => None,
            };
            state = match left {
                Some(left) => {
                    let waited = self.change.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    state.idle = true;
                    let mut state = self.change.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.idle = false;
                    state
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;

    #[test]
    fn each_call_that_takes_too_long_is_told_of_once_and_its_return_follows() {
        let (said, heard) = channel();
        let back = said.clone();
        let watchdog = Watchdog::spawn(
            Duration::from_millis(50),
            move |why| said.send(why).unwrap(),
            move || back.send("returned".to_owned()).unwrap(),
        )
        .unwrap();
        let longest = Duration::from_secs(20);
        for name in ["one", "two"] {
            let answer = watchdog.call("be quick", || 7);
            assert_eq!(answer, 7);
            let told = watchdog.call(format!("describe {name}"), || {
                let told = heard.recv_timeout(longest).unwrap();
                let again = heard.recv_timeout(Duration::from_millis(200));
                assert_eq!(again, Err(RecvTimeoutError::Timeout), "it is told once");
                told
            });
            assert_eq!(told, format!("it has not answered for 0.05 s: asked to describe {name}"));
            assert_eq!(heard.recv_timeout(longest).unwrap(), "returned");
        }
        let quiet = heard.recv_timeout(Duration::from_millis(200));
        assert_eq!(quiet, Err(RecvTimeoutError::Timeout), "between calls there is nothing to tell");
        drop(watchdog);
        assert_eq!(heard.recv_timeout(longest), Err(RecvTimeoutError::Disconnected), "it ends");
    }
}
