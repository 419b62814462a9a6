//! Records of the audit, in the order of their chain: each at least once, also what was written while the fleet was away.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use detector_core::fleet::message::{ChainedRecord, Records};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use uuid::Uuid;

use crate::{
    audit,
    config::text::read_text,
    fleet::{
        speech::{Speech, Unsaid},
        words::Place,
    },
    registry::edit::overwrite,
};

/// Records of one message.
const MOST: u32 = 64;
const LONGEST: u64 = 4096;

/// Up to where the fleet has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    /// Another chain is sent from its beginning.
    chain: String,
    seq: u64,
}

/// Sends, for as long as the daemon lives.
pub(super) async fn keep_sending(
    (interval, mut connected): (Duration, watch::Receiver<()>),
    speech: Speech,
    (database, directory): (PathBuf, PathBuf),
) {
    let place = directory.join("audit-told.json");
    let mut cursor = read(&place);
    let mut most = MOST;
    loop {
        let (from, before) = (database.clone(), cursor.clone());
        let found = spawn_blocking(move || next(&from, &before, most)).await;
        let Ok(Some((next, records))) = found else {
            tokio::select! {
                () = sleep(interval) => {}
                Ok(()) = connected.changed() => {}
            }
            continue;
        };
        // The same records have the same name, so that those that are sent twice are kept once.
        let names: Vec<_> = records.iter().map(|record| record.hash.as_str()).collect();
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, names.concat().as_bytes());
        match speech.put(Place::Audit, &Records { records }, Some(id)).await {
            Ok(()) => {
                let to = place.clone();
                cursor = next.clone();
                most = MOST;
                let kept = spawn_blocking(move || write(&to, &next)).await;
                if let Ok(Err(error)) = kept {
                    tracing::warn!(%error, "fleet: records of the audit will be sent twice");
                }
            }
            Err(Unsaid::Later(_)) => sleep(interval).await,
            Err(Unsaid::Never(_)) if most > 1 => most /= 2,
            Err(Unsaid::Never(why)) => {
                tracing::warn!(%why, seq = next.seq, "fleet: a record of the audit is not sent");
                cursor = next;
            }
        }
    }
}

/// What is to be sent next, and where that ends; `None` when there is nothing, or it cannot be read for now.
fn next(database: &Path, cursor: &Cursor, most: u32) -> Option<(Cursor, Vec<ChainedRecord>)> {
    let connection = audit::reader(database).ok()?;
    let head = audit::head(&connection).ok()??;
    let seq = if head.chain == cursor.chain { cursor.seq } else { 0 };
    let found = audit::behind(&connection, seq, most).ok()?;
    let records: Vec<_> =
        found.into_iter().map(|(seq, hash, line)| ChainedRecord { seq, hash, line }).collect();
    let seq = records.last()?.seq;
    Some((Cursor { chain: head.chain, seq }, records))
}

fn read(place: &Path) -> Cursor {
    let text = read_text(place, LONGEST).unwrap_or_default();
    // What cannot be read means that all is sent again.
    serde_json::from_str(&text).unwrap_or_default()
}

fn write(place: &Path, cursor: &Cursor) -> io::Result<()> {
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory)?;
    }
    overwrite(place, &serde_json::to_string(cursor).map_err(io::Error::other)?, 0o600)
}
