//! Starts a part's work again when it ends: the daemon has given up the privileges that this takes.
//!
//! Whoever does so reads nothing, of nobody.

use std::{
    env,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use caps::Capability;

use super::{PROGRAM, Said, begin, say};
use crate::privilege;

/// After this the work is begun again, then after twice as long, and so on…
const FIRST: Duration = Duration::from_secs(1);
/// … up to this.
const LAST: Duration = Duration::from_secs(60);
/// Work that has gone on for so long is begun again after [`FIRST`].
const CALM: Duration = Duration::from_secs(120);

/// What it takes to be another user.
const TO_BE_ANOTHER: [Capability; 3] =
    [Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_SETPCAP];

/// Has the work of this part done, which needs these capabilities, until the daemon has gone.
pub(crate) fn keep(needed: &[Capability]) -> Result<()> {
    begin()?;
    let kept: Vec<_> = needed.iter().chain(&TO_BE_ANOTHER).copied().collect();
    privilege::keep_only(&kept).context("cannot give up capabilities")?;
    let mut pause = FIRST;
    loop {
        let begun = Instant::now();
        let how = match work() {
            // Nobody wants it any more.
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => format!("has ended ({status})"),
            Err(error) => format!("cannot be started: {error}"),
        };
        if begun.elapsed() >= CALM {
            pause = FIRST;
        }
        let ended = format!("{how}, and is started again {} s later", pause.as_secs());
        // It may have ended in the middle of a line.
        let whole = io::stdout().write_all(b"\n").is_ok();
        if !whole || !say(&Said::<()>::Ended(ended)) {
            return Ok(());
        }
        #[expect(clippy::disallowed_methods, reason = "it has nothing to wait for but the time")]
        thread::sleep(pause);
        pause = (pause * 2).min(LAST);
    }
}

/// By this very program, also when its file has been replaced meanwhile.
fn work() -> io::Result<ExitStatus> {
    let mut words = env::args_os();
    let name = words.next().unwrap_or_else(|| PROGRAM.into());
    Command::new("/proc/self/exe").arg0(name).args(words).arg("--once").status()
}
