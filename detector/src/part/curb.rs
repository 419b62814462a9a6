//! Keeps VMs from running on that no inventory knows, for which it takes the right to signal processes of others.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    process::{self, ChildStdin, ChildStdout},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use caps::Capability;
use detector_core::model::{Curb, Curbed, ProcessId};

use super::{List, Said, begin, brief, hear, lines, list_for, say, settle, start};
use crate::{
    clock,
    config::Config,
    processes::{Curbs, ScanOptions},
    sandbox,
};

/// By this word the program is run as this part.
const WORD: &str = "curb-processes";

/// To signal processes of others, and to see by itself what they are before it does.
pub(super) const NEEDED: [Capability; 4] = [
    Capability::CAP_KILL,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_CHECKPOINT_RESTORE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// How often it looks whether they do not run on.
const LOOK: Duration = Duration::from_secs(1);

/// What has become of those that were wanted; processes are no keys in a line.
type Line = Vec<(ProcessId, Curbed)>;
/// Those that are wanted, all of them.
pub(crate) type Wanted = Vec<(ProcessId, Curb)>;

/// Whoever does so, in a process of its own.
pub(crate) struct Curbing {
    wanted: ChildStdin,
    told: ChildStdout,
}

impl Curbing {
    /// Starts it; `None` where VMs that no inventory knows are reported only.
    pub(crate) fn start(config: &Config, words: &[OsString]) -> io::Result<Option<Self>> {
        if config.mitigation.unknown_processes.curb().is_none() {
            return Ok(None);
        }
        let own = ["--daemon".into(), process::id().to_string().into()];
        let (wanted, told) = start(WORD, &[words, &own].concat())?;
        Ok(Some(Self { wanted, told }))
    }

    /// Hands on what becomes of processes, on a thread of its own, until nobody wants to know.
    pub(crate) fn follow(
        self,
        tell: impl Fn(BTreeMap<ProcessId, Curbed>) -> bool + Send + 'static,
    ) -> io::Result<List<Wanted>> {
        let Self { wanted, told } = self;
        let list = list_for::<Wanted>("curb-wanted", wanted)?;
        let again = list.clone();
        thread::Builder::new().name("curb".to_owned()).spawn(move || {
            let mut told = lines(told);
            while let Some(said) = hear::<Said<Line>>(&mut told) {
                let line = match said {
                    Said::Begun => {
                        // Who begins anew has to be told again.
                        again.ring();
                        continue;
                    }
                    Said::Ended(how) => {
                        let how = brief(&how);
                        tracing::warn!(how, "the process that keeps VMs from running on");
                        continue;
                    }
                    Said::Told(line) => line,
                };
                let short = |curbed| match curbed {
                    Curbed::Refused(why) => Curbed::Refused(brief(&why)),
                    other => other,
                };
                if !tell(line.into_iter().map(|(id, curbed)| (id, short(curbed))).collect()) {
                    return;
                }
            }
            tracing::error!("nobody is left who keeps VMs from running on");
        })?;
        Ok(list)
    }
}

/// Is this part, until the daemon has gone. What it has suspended stays so.
pub(super) fn curb(config: &Config, daemon: u32) -> Result<()> {
    begin()?;
    settle(config, &NEEDED, sandbox::only_curb)?;
    let options = ScanOptions {
        interval: config.scan.interval,
        grace: config.scan.grace,
        records: config.scan.records.clone(),
        ignored: config.scan.ignored.clone(),
    };
    let mut curbs = Curbs::new(options, daemon);
    let (send, lists) = channel();
    thread::Builder::new()
        .name("curb-wanted".to_owned())
        .spawn(move || {
            let mut wanted = io::stdin().lock();
            while let Some(list) = hear::<Wanted>(&mut wanted) {
                if send.send(list).is_err() {
                    return;
                }
            }
        })
        .context("cannot start to listen")?;
    say(&Said::<()>::Begun);
    let mut wanted = BTreeMap::new();
    let mut told = None;
    loop {
        match lists.recv_timeout(LOOK) {
            Ok(list) => wanted = list.into_iter().collect(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        let now = curbs.keep(&wanted, clock::now());
        let line: Line = now.into_iter().collect();
        if told.as_ref() != Some(&line) {
            if !say(&Said::Told(line.clone())) {
                return Ok(());
            }
            told = Some(line);
        }
    }
}
