//! Waiting for something to become true, in the one place that may.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Set by a signal handler: every wait ends with an error, so that whoever waits cleans up.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Asks again and again until the answer is there; an error that names what was awaited when the
/// time is up.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    const PAUSE: Duration = Duration::from_millis(5);
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted while waiting for {what}");
        }
        if start.elapsed() > patience {
            bail!("waited {patience:?} for {what}, in vain");
        }
        pause(PAUSE);
    }
}

/// Lets time pass where the absence of something is what is being observed.
pub fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the one polling helper, and the one silence")]
    std::thread::sleep(time);
}
