//! What a remediation does, by a process of its own, which is ended in the middle or waits there.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use detector::remediate::contain::{Contained, Containment};
use detector::remediate::evidence::Manifest;
use detector::remediate::provision::offline::Offline;
use detector::remediate::provision::{Ended, Provisioner, Request};
use detector::remediate::replace::{Replaced, Replacement};
use detector::remediate::storage::{Off, Plan, Report, StorageError, Task};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::host::Host;

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    Plan {
        task: Task,
        at: Place,
    },
    Move {
        task: Task,
        at: Place,
    },
    Undo {
        domain: Uuid,
        at: Place,
    },
    ShutOff {
        uri: String,
        domain: Uuid,
        grace: Duration,
        force: bool,
    },
    Contain {
        uri: String,
        domain: Uuid,
        how: Containment,
    },
    Evidence {
        id: String,
        uri: String,
        domain: Uuid,
        state: PathBuf,
    },
    Replace {
        replacement: Box<Replacement>,
        state: PathBuf,
    },
    TakeBack {
        former: Uuid,
        state: PathBuf,
    },
    Provision {
        provisioner: Provisioner,
        request: Box<Request>,
        state: PathBuf,
    },
    Offline {
        uri: String,
        pool: String,
        request: Box<Request>,
        work: Box<Offline>,
        timeout: Duration,
    },
}

/// Where it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    pub state: PathBuf,
    pub image_dirs: Vec<PathBuf>,
    /// What templates are.
    pub kept: Vec<PathBuf>,
    pub segment: u64,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Plan(Plan),
    Moved(Report),
    Undone,
    Off(Off),
    Contained(Contained),
    Replaced(Replaced),
    /// Where it is kept.
    Kept(PathBuf, Manifest),
    Provisioned(Box<Ended>),
    Storage(StorageError),
    Failed(String),
}

/// What becomes of the process meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    GoOn,
    /// It is killed when it has said so much.
    Dies(u32),
    /// It waits for a line on its standard input when it has said something that begins like this.
    WaitsFor(String),
}

/// One that is under way.
pub struct Deed {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: Vec<String>,
}

/// What its lines begin with that say how it goes on.
pub const SAYS: &str = "says: ";
/// The line by which it says that it waits.
pub const WAITS: &str = "waits";

impl Deed {
    /// `program` is the one called `hands`.
    pub fn begin(host: &Host, program: &str, order: &Order, then: &Then) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(serde_json::to_string(order)?).arg(serde_json::to_string(then)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = host.spawn(&mut command)?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self { child, stdout: BufReader::new(stdout), said: Vec::new() })
    }

    /// Waits until it waits.
    pub fn await_pause(&mut self) -> Result<()> {
        loop {
            let line = self.line()?;
            match line.trim() {
                WAITS => return Ok(()),
                said if said.starts_with(SAYS) => self.said.push(said[SAYS.len()..].to_owned()),
                other => bail!("it did not come so far: {other}; {:?}", self.said),
            }
        }
    }

    pub fn go_on(&mut self) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("no standard input")?;
        stdin.write_all(b"\n").context("it has gone")
    }

    /// What came of it; `None` where it was killed. And what it has said meanwhile.
    pub fn outcome(mut self) -> Result<(Option<Answer>, Vec<String>)> {
        loop {
            let line = self.line()?;
            if let Some(said) = line.trim_end().strip_prefix(SAYS) {
                self.said.push(said.to_owned());
                continue;
            }
            self.child.wait()?;
            let said = std::mem::take(&mut self.said);
            if line.is_empty() {
                return Ok((None, said));
            }
            let answer = serde_json::from_str(&line);
            return Ok((Some(answer.with_context(|| format!("it says {line:?}"))?), said));
        }
    }

    pub fn end(self) -> Result<Option<Answer>> {
        self.outcome().map(|(answer, _)| answer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Deed {
    fn drop(&mut self) {
        // It has ended by itself when this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    pub fn new(state: &Path, image_dirs: &[PathBuf]) -> Self {
        let (state, image_dirs) = (state.to_owned(), image_dirs.to_vec());
        Self { state, image_dirs, kept: Vec::new(), segment: 1 << 20 }
    }
}
