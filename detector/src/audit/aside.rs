//! What the command line does while no daemon lives: into the chain itself where that can be written, otherwise into
//! a file that the daemon takes in when it starts.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Chain, Entry, Place};

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Spooled {
    at: Timestamp,
    entry: Entry,
}

/// Marks what comes from the file, and is in the chain once only.
const MARK: &str = "spooled";

/// Puts it on record: its number, or nothing where the daemon has to number it.
///
/// # Errors
///
/// It is nowhere.
pub fn record(place: &Place, entry: &Entry) -> Result<Option<u64>, String> {
    let at = Timestamp::now();
    let why = match Chain::open(place, None) {
        Ok((mut chain, _)) => match chain.append(&[(at, entry.clone())]) {
            Ok((seq, _)) => return Ok(Some(seq)),
            Err(why) => why.to_string(),
        },
        Err(why) => why.to_string(),
    };
    let token = format!("{}-{}", at.as_nanosecond(), std::process::id());
    let entry = entry.clone().because(MARK, [token]);
    match spool(place, &Spooled { at, entry }) {
        Ok(()) => Ok(None),
        Err(error) => Err(format!("{why}; nor {}: {error}", place.spool.display())),
    }
}

fn spool(place: &Place, spooled: &Spooled) -> io::Result<()> {
    let mut line = super::line::to_line(spooled);
    line.push('\n');
    let mut file = fs::File::options().append(true).create(true).mode(0o600).open(&place.spool)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

/// What is in the file and not in the chain yet. A line that is none is told, and does not keep others back.
pub(super) fn spooled(place: &Place, chain: &Chain) -> rusqlite::Result<Vec<(Timestamp, Entry)>> {
    let Ok(file) = fs::File::open(&place.spool) else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        match serde_json::from_str::<Spooled>(&line) {
            Ok(Spooled { at, entry }) => {
                let token = entry.evidence.get(MARK).and_then(|tokens| tokens.first());
                let taken = match token {
                    Some(token) => chain.has(MARK, token)?,
                    None => false,
                };
                if !taken {
                    entries.push((at, entry));
                }
            }
            Err(error) => {
                let path = place.spool.display();
                tracing::warn!(%path, %error, "audit: a line of what was done meanwhile is none");
            }
        }
    }
    Ok(entries)
}

impl Chain {
    /// Whether a record has this evidence.
    fn has(&self, name: &str, text: &str) -> rusqlite::Result<bool> {
        // A line that is damaged is no JSON, and an error there would be one of the whole question.
        let sql = "SELECT count(*) FROM record WHERE CASE WHEN json_valid(line)
                   THEN json_extract(line, '$.evidence.' || ?1 || '[0]') END = ?2";
        self.connection
            .query_row(sql, [name, text], |found| found.get::<_, i64>(0))
            .map(|found| found > 0)
    }
}
