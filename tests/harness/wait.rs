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
    let patience = patience * slowness();
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
        pass(PAUSE);
    }
}

/// How many times slower than usual everything is, as `DETECTOR_TESTS_SLOWNESS` says: under emulation
/// what takes milliseconds elsewhere takes longer than a test would wait, or listen for what must not
/// come.
pub fn slowness() -> u32 {
    let number = std::env::var("DETECTOR_TESTS_SLOWNESS").ok();
    number.and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// A time that is expected of the product, on a machine that is as slow as this one is said to be.
pub fn scaled(time: Duration) -> Duration {
    time * slowness()
}

/// Lets time pass where the absence of something is what is being observed.
pub fn pause(time: Duration) {
    pass(time * slowness());
}

fn pass(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the one polling helper, and the one silence")]
    std::thread::sleep(time);
}
