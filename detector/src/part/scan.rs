//! Looks through the host's processes, for which it takes the right to look into those of others.

use std::{
    ffi::OsString,
    io::{self, Read},
    process::{ChildStdin, ChildStdout},
    thread,
};

use anyhow::{Context, Result};
use caps::Capability;
use detector_core::model::VmProcess;

use super::{Said, begin, brief, hear, lines, say, settle, start};
use crate::{
    clock,
    config::Config,
    processes::{self, Announcements, ScanOptions, Scanned},
    sandbox,
};

/// By this word the program is run as this part.
const WORD: &str = "scan-processes";

/// To look into processes of others and at what they have mapped, read records that belong to others, and ask in which
/// namespace a tap is.
pub(super) const NEEDED: [Capability; 4] = [
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_CHECKPOINT_RESTORE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_NET_ADMIN,
];

/// A line of it: processes are no keys there.
type Line = Result<Vec<VmProcess>, String>;

/// The scan, in a process of its own.
pub(crate) struct Scanning {
    /// It ends with this.
    _alive: ChildStdin,
    found: ChildStdout,
}

impl Scanning {
    /// Starts it; `None` where no scan is wanted.
    pub(crate) fn start(config: &Config, words: &[OsString]) -> io::Result<Option<Self>> {
        if config.scan.interval.is_zero() {
            return Ok(None);
        }
        let (alive, found) = start(WORD, words)?;
        Ok(Some(Self { _alive: alive, found }))
    }

    /// Hands on what each scan finds, on a thread of its own, until nobody listens.
    pub(crate) fn follow(self, tell: impl Fn(Scanned) -> bool + Send + 'static) -> io::Result<()> {
        thread::Builder::new().name("processes".to_owned()).spawn(move || {
            let Self { _alive: alive, found } = self;
            let mut found = lines(found);
            while let Some(said) = hear::<Said<Line>>(&mut found) {
                let scanned = match said {
                    Said::Begun => continue,
                    Said::Ended(how) => {
                        let how = brief(&how);
                        tracing::warn!(how, "the process that scans processes");
                        Err(format!("the process that scans {how}"))
                    }
                    Said::Told(line) => {
                        line.map(|list| list.into_iter().map(|one| (one.id, one)).collect())
                    }
                };
                if !tell(scanned) {
                    return;
                }
            }
            tracing::error!("the scan of processes has ended");
            let why = "whoever starts the process that scans has ended; the daemon has to be started anew";
            tell(Err(why.to_owned()));
            drop(alive);
        })?;
        Ok(())
    }
}

/// Is this part, until the daemon has gone.
pub(super) fn scan(config: &Config) -> Result<()> {
    begin()?;
    // To ask for them takes what is given up next.
    let announcements = Announcements::ask_for();
    settle(config, &NEEDED, sandbox::only_look)?;
    let options = ScanOptions {
        interval: config.scan.interval,
        grace: config.scan.grace,
        records: config.scan.records.clone(),
        ignored: config.scan.ignored.clone(),
    };
    let tell = |scanned: Scanned| {
        let line: Line = scanned.map(|found| found.into_values().collect());
        say(&Said::Told(line))
    };
    processes::spawn(options, announcements, clock::now, tell)
        .context("cannot start to scan the host's processes")?;
    let _ = io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
