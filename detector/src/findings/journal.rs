//! Where findings are told: the log for operators, and a file of JSON lines for other programs.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use detector_core::model::{FindingKey, Severity, Subject, Timestamp};
use serde::Serialize;

use super::Change;
use crate::{
    api::view::{FindingView, moment},
    escape,
};

/// A file that has grown longer gives way to a new one; one is kept.
const LONGEST: u64 = 16 << 20;

/// The file of JSON lines. What cannot be written is counted and told in the log; it never holds
/// anything up.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    failing: bool,
    lost: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    at: jiff::Timestamp,
    event: &'static str,
    finding: &'a FindingView,
}

impl Journal {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, failing: false, lost: 0 }
    }

    /// Appends a line. A line is written with one call, so that a crash leaves whole lines.
    pub fn write(&mut self, at: Timestamp, change: &Change) {
        let (event, finding) = match change {
            Change::Opened(finding) => ("opened", finding),
            Change::Changed(finding) => ("changed", finding),
            Change::Closed(finding) => ("closed", finding),
        };
        let line = Line { at: moment(at), event, finding: &super::view(finding) };
        let written = escape::json(&line).map_err(io::Error::from).and_then(|mut line| {
            line.push('\n');
            self.append(line.as_bytes())
        });
        match written {
            Ok(()) if self.failing => {
                tracing::info!(path = %self.path.display(), lost = self.lost, "findings: written again");
                self.failing = false;
            }
            Ok(()) => {}
            Err(error) => {
                self.file = None;
                self.lost += 1;
                if !self.failing {
                    tracing::warn!(path = %self.path.display(), %error, "findings: cannot be written");
                    self.failing = true;
                }
            }
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|f| f.len() >= LONGEST))
        {
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            self.file = None;
            fs::rename(&self.path, before)?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                if let Some(directory) = self.path.parent() {
                    fs::create_dir_all(directory)?;
                }
                none.insert(
                    OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?,
                )
            }
        };
        file.write_all(line)
    }
}

/// Tells the log. Titles and evidence stay out of it: they may name addresses of tenants.
pub fn log(change: &Change) {
    let (event, finding) = match change {
        Change::Opened(finding) => ("opened", finding),
        Change::Changed(finding) => ("changed", finding),
        Change::Closed(finding) => ("closed", finding),
    };
    let kind = finding.key.kind.as_str();
    let subject = subject(&finding.key);
    if event != "closed" && finding.severity >= Severity::Medium {
        tracing::warn!(kind, %subject, severity = finding.severity.as_str(), "finding {event}");
    } else {
        tracing::info!(kind, %subject, severity = finding.severity.as_str(), "finding {event}");
    }
}

fn subject(key: &FindingKey) -> String {
    match &key.subject {
        Subject::Vm(uuid) => format!("vm {uuid}"),
        Subject::Port { ifindex, instance } => format!("port {ifindex}/{instance}"),
        Subject::Source(name) => format!("source {}", name.escape_debug()),
        Subject::Place(place) => format!("place {}", place.escape_debug()),
        Subject::Process(id) => format!("process {id}"),
        Subject::Host => "host".to_owned(),
    }
}
