//! What a provisioner prints, within bounds: its last bytes, and the lines in which it says something.

use std::collections::VecDeque;

use super::Said;
use crate::escape::escape;

/// A line in which something is said is not longer, in bytes.
const LONGEST_LINE: usize = 16 << 10;
/// A message is cut after so many characters.
const LONGEST_MESSAGE: usize = 1024;

/// Takes what is printed on one way.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// The line is too long to say anything.
    long: bool,
}

impl Lines {
    /// What the lines say that end in these bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                if !std::mem::take(&mut self.long) {
                    said.extend(understand(&self.line));
                }
                self.line.clear();
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(*byte);
            } else {
                self.long = true;
            }
        }
        said
    }
}

/// What a line says; nothing where it is not of the contract, and so is mere output.
fn understand(line: &[u8]) -> Option<Said> {
    let short = |text: String| escape(&text.chars().take(LONGEST_MESSAGE).collect::<String>());
    Some(match serde_json::from_slice(line).ok()? {
        Said::Progress { percent, message } => {
            Said::Progress { percent: percent.min(100), message: short(message) }
        }
        Said::Message { message } => Said::Message { message: short(message) },
        Said::Result { ok, changed, message } => {
            Said::Result { ok, changed, message: short(message) }
        }
    })
}

/// The end of what has been printed.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    keep: usize,
    pub(super) printed: u64,
}

impl Tail {
    pub(super) fn new(keep: usize) -> Self {
        Self { bytes: VecDeque::new(), keep, printed: 0 }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.printed = self.printed.saturating_add(bytes.len() as u64);
        let bytes = bytes.get(bytes.len().saturating_sub(self.keep)..).unwrap_or_default();
        let over = (self.bytes.len() + bytes.len()).saturating_sub(self.keep);
        self.bytes.drain(..over);
        self.bytes.extend(bytes);
    }

    /// As lines that act on no terminal.
    pub(super) fn text(&mut self) -> String {
        let text = String::from_utf8_lossy(self.bytes.make_contiguous()).into_owned();
        let lines: Vec<_> = text.split('\n').map(escape).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Said {
        Said::Message { message: text.to_owned() }
    }

    #[test]
    fn what_is_said_is_bounded_and_the_rest_is_output() {
        let long = "x".repeat(LONGEST_LINE);
        let cases: &[(&str, &[Said])] = &[
            (
                "{\"event\":\"progress\",\"percent\":255}\n",
                &[Said::Progress { percent: 100, message: String::new() }],
            ),
            ("{\"event\":\"progress\",\"percent\":-1}\n", &[]),
            ("{\"event\":\"progress\",\"percent\":1e99}\n", &[]),
            ("{\"event\":\"message\",\"message\":\"a\\u001b[31m\"}\n", &[message("a\\u{1b}[31m")]),
            (
                "{\"event\":\"result\",\"ok\":true}\n",
                &[Said::Result { ok: true, changed: None, message: String::new() }],
            ),
            ("{\"event\":\"released\"}\nTASK [ok]\n{}\n[]\n\n", &[]),
            ("{\"event\":\"message\",\"message\":\"no end\"}", &[]),
            (
                &format!(
                    "{{\"event\":\"message\",\"message\":\"{long}\"}}\n{{\"event\":\"message\",\"message\":\"b\"}}\n"
                ),
                &[message("b")],
            ),
        ];
        for (text, expect) in cases {
            for size in [1, 7, text.len()] {
                let mut lines = Lines::default();
                let said: Vec<_> =
                    text.as_bytes().chunks(size).flat_map(|part| lines.take(part)).collect();
                assert_eq!(said, *expect, "{text:.60}");
            }
        }
        let mut lines = Lines::default();
        let text = format!("{{\"event\":\"message\",\"message\":\"{}\"}}\n", "é".repeat(5000));
        assert_eq!(lines.take(text.as_bytes()), [message(&"é".repeat(LONGEST_MESSAGE))]);
        assert!(lines.take(&vec![b'x'; 10 << 20]).is_empty());
        assert!(lines.line.capacity() <= 2 * LONGEST_LINE, "memory is bounded");
    }

    #[test]
    fn the_end_is_kept() {
        let mut tail = Tail::new(8);
        for part in ["0123456789", "ab", "c\n\u{1b}"] {
            tail.take(part.as_bytes());
        }
        assert_eq!((tail.text().as_str(), tail.printed), ("789abc\n\\u{1b}", 15));
        tail.take(b"\xff\xfe");
        assert_eq!(tail.text(), "9abc\n\\u{1b}\u{fffd}\u{fffd}");
        let mut none = Tail::new(0);
        none.take(b"abc");
        assert_eq!((none.text().as_str(), none.printed), ("", 3));
    }
}
