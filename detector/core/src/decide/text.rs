//! Names that others have chosen, made fit for sentences and commands.

use std::path::Path;

use crate::model::{Timestamp, Vm};

/// The most characters of a foreign text that a sentence repeats.
const LONGEST: usize = 96;

/// A text that a guest or tenant may have chosen, quoted, with control characters escaped and its
/// length bounded.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A text of our own that repeats foreign ones, escaped already, with its length bounded.
pub(super) fn bounded(text: &str) -> String {
    match text.char_indices().nth(4 * LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

pub(super) fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A moment as RFC 3339 writes it, in UTC and whole seconds.
pub(super) fn moment(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The command that explains the verdict on a VM. A name that a shell might read as anything but a
/// word is never part of a command: the UUID stands in for it.
pub(super) fn explain(vm: &Vm) -> String {
    if is_plain(&vm.name) {
        format!("detector explain {}", vm.name)
    } else {
        format!("detector explain {}", vm.uuid)
    }
}

/// The command that shows a port, or all of them when the name could be misread by a shell.
pub fn show_port(name: &str) -> String {
    if is_plain(name) {
        format!("detector port show {name}")
    } else {
        "detector port list".to_owned()
    }
}

fn is_plain(word: &str) -> bool {
    word.len() <= LONGEST
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
