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

use super::{begin, hear, lines, say, settle, start};
use crate::{
    clock,
    config::Config,
    processes::{self, Announcements, ScanOptions, Scanned},
    sandbox,
};

/// By this word the program is run as this part.
pub(crate) const WORD: &str = "scan-processes";

/// To look into processes of others and at what they have mapped, read records that belong to others, and ask in which
/// namespace a tap is.
const NEEDED: [Capability; 4] = [
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
            while let Some(line) = hear::<Line>(&mut found) {
                let by_id = |list: Vec<VmProcess>| list.into_iter().map(|one| (one.id, one)).collect();
                if !tell(line.map(by_id)) {
                    return;
                }
            }
            tracing::error!("the scan of processes has ended");
            let why = "the process that scans has ended, and another one needs the daemon to be started anew";
            tell(Err(why.to_owned()));
            drop(alive);
        })?;
        Ok(())
    }
}

/// Is this part, until the daemon has gone.
pub(crate) fn scan(config: &Config) -> Result<()> {
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
    let tell =
        |scanned: Scanned| say(&Line::from(scanned.map(|found| found.into_values().collect())));
    processes::spawn(options, announcements, clock::now, tell)
        .context("cannot start to scan the host's processes")?;
    let _ = io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
