//! The policy's file: read, and what it last said while it cannot be.

pub mod cases;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use detector_core::{
    decide::policy::{Fault, Refused, Rulebook, Rules},
    model::Timestamp,
};

use crate::config::text::{Place, ReadError, read_text};

/// The longest policy in bytes.
pub const MAX_BYTES: u64 = 256 << 10;

/// Why a file is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{path}: {why}", path = path.display())]
    Unreadable { path: PathBuf, why: ReadError },
    #[error("{}", .faults.iter().map(|fault| place(path, fault)).collect::<Vec<_>>().join("\n"))]
    Invalid { path: PathBuf, text: String, faults: Vec<Fault> },
}

impl PolicyError {
    /// Each thing that is wrong, with its place.
    pub fn all(&self) -> Vec<String> {
        match self {
            Self::Unreadable { .. } => vec![self.to_string()],
            Self::Invalid { path, faults, .. } => {
                faults.iter().map(|fault| place(path, fault)).collect()
            }
        }
    }
}

/// A fault with its file, line and column.
fn place(path: &Path, fault: &Fault) -> String {
    let place = Place { path: path.to_owned(), position: Some((fault.line, fault.column)) };
    let help = fault.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{place}: {}{help}", fault.message)
}

/// Reads a policy from a file; blocks.
pub fn read(path: &Path) -> Result<Rules, PolicyError> {
    parse(path, text(path)?)
}

fn text(path: &Path) -> Result<String, PolicyError> {
    let unreadable = |why| PolicyError::Unreadable { path: path.to_owned(), why };
    read_text(path, MAX_BYTES).map_err(unreadable)
}

fn parse(path: &Path, text: String) -> Result<Rules, PolicyError> {
    match Rules::parse(&text) {
        Ok(rules) => Ok(rules),
        Err(faults) => Err(PolicyError::Invalid { path: path.to_owned(), text, faults }),
    }
}

/// The policy of the daemon. While the file cannot be used, what it last said stays in force; until it
/// has said something, that is the built-in policy.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    last: Option<Arc<Rules>>,
    /// The last word of it that is not used.
    refused: Option<Refused>,
}

impl PolicyFile {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), last: None, refused: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads another file from now on; what the one before said holds until that has said something.
    pub fn follow(&mut self, path: &Path) {
        path.clone_into(&mut self.path);
    }

    /// Reads it now; blocks.
    pub fn reload(&mut self, now: Timestamp) -> Rulebook {
        // What has been evaluated of the same text is remembered with it.
        let known = |text: &String| self.last.as_ref().is_some_and(|last| last.text() == text);
        let why = match text(&self.path) {
            Ok(text) if known(&text) => None,
            Ok(text) => match parse(&self.path, text) {
                Ok(rules) => {
                    self.last = Some(Arc::new(rules));
                    None
                }
                Err(error) => Some(error.all()),
            },
            Err(PolicyError::Unreadable { why: ReadError::Absent, .. }) if self.last.is_none() => {
                None
            }
            Err(error) => Some(error.all()),
        };
        let path = self.path.display().to_string();
        let before = self.refused.take();
        self.refused = why.map(|why| {
            let since = before.filter(|before| before.why == why).map_or(now, |one| one.since);
            Refused { path: path.clone(), why, since }
        });
        Rulebook {
            origin: self.last.as_ref().map(|_| path),
            rules: self.last.clone().unwrap_or_else(Rules::built_in),
            refused: self.refused.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use detector_core::decide::policy::DEFAULT;

    use super::*;

    const OWN: &str = r#"@id("all") permit (principal, action == Action::"join", resource);"#;
    const BROKEN: &str = "@id(\"all\")\npermit (principal";

    /// What the file holds in turn, where the rules in force come from, how many there are, and the
    /// refusal.
    #[test]
    fn what_cannot_be_used_leaves_the_old_one_in_force() {
        let built_in = Rules::built_in().list().len();
        let steps: &[(Option<&str>, bool, usize, Option<&str>)] = &[
            (None, false, built_in, None),
            (Some(BROKEN), false, built_in, Some(":2:18: ")),
            (Some(OWN), true, 1, None),
            (Some(BROKEN), true, 1, Some(":2:18: ")),
            (Some(""), true, 1, Some(":1:1: no rule permits")),
            (None, true, 1, Some("there is no such file")),
            (Some(DEFAULT), true, built_in, None),
        ];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.cedar");
        let mut file = PolicyFile::new(&path);
        for (number, (text, own, rules, refused)) in steps.iter().enumerate() {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => drop(std::fs::remove_file(&path)),
            }
            let book = file.reload(Timestamp(7));
            assert_eq!(file.reload(Timestamp(8)).refused, book.refused, "step {number}");
            assert_eq!(book.origin.is_some(), *own, "step {number}");
            assert_eq!(book.rules.list().len(), *rules, "step {number}");
            match (refused, book.refused) {
                (None, None) => {}
                (Some(part), Some(Refused { why, since, .. })) => {
                    assert!(why[0].contains(part), "step {number}: {why:?}");
                    assert!(why[0].starts_with(path.to_str().unwrap()), "step {number}: {why:?}");
                    assert_eq!(since, Timestamp(7));
                }
                (expected, found) => panic!("step {number}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn the_same_text_keeps_what_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.cedar");
        std::fs::write(&path, OWN).unwrap();
        let mut file = PolicyFile::new(&path);
        let first = file.reload(Timestamp(1)).rules;
        std::fs::write(&path, OWN).unwrap();
        assert!(Arc::ptr_eq(&first, &file.reload(Timestamp(2)).rules));
    }
}
