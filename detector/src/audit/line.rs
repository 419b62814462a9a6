//! A record as a line of text: what is hashed, stored and exported is the same bytes.

use std::{fmt::Write as _, io};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;
use sha2::{Digest as _, Sha256};

use super::Entry;

/// The version of what a record holds. Fields are added, never renamed or removed, within a version.
const VERSION: u32 = 1;

/// What the first record of a chain follows.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A record: an entry with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub v: u32,
    /// From 1, without a gap.
    pub seq: u64,
    pub at: Timestamp,
    /// The hash of the record before it.
    pub prev: String,
    #[serde(flatten)]
    pub entry: Entry,
}

impl Record {
    /// The line, and its hash: SHA-256 of its bytes, in hexadecimal digits.
    pub(super) fn line(seq: u64, at: Timestamp, prev: &str, entry: &Entry) -> (String, String) {
        let record =
            Self { v: VERSION, seq, at, prev: prev.to_owned(), entry: entry.clone().bounded() };
        let line = to_line(&record);
        let hash = hash(&line);
        (line, hash)
    }
}

/// The line as it is exported: with its hash as the last field. Without these 75 characters, and with a closing
/// brace again, it is what is hashed.
pub fn with_hash(line: &str, hash: &str) -> String {
    format!("{},\"hash\":\"{hash}\"}}", line.strip_suffix('}').unwrap_or(line))
}

pub(super) fn hash(line: &str) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(line.as_bytes()) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// JSON on one line, of printable ASCII only, whatever somebody has chosen: it acts on no terminal.
pub(super) fn to_line(value: &impl Serialize) -> String {
    let mut line = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut line, Ascii);
    // Texts, numbers and maps by text: nothing of it can fail.
    let _ = value.serialize(&mut to);
    String::from_utf8(line).unwrap_or_default()
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() && c != '\u{7f}' {
                to.write_all(&[c as u8])?;
            } else {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    write!(to, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
