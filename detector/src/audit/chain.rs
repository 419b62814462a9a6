//! The chain in its file: what is appended, and where it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Entry, Kind, Place, Record, SigningKey, Subject, Who,
    line::{self, NOTHING},
};
use crate::store::{self, Schema, SetAside, StoreError};

const SCHEMA: Schema = Schema {
    what: "audit",
    application_id: 0x6465_7441,
    migrations: &["
        CREATE TABLE chain (id TEXT NOT NULL);
        CREATE TABLE record (seq INTEGER PRIMARY KEY, line TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
        CREATE TABLE checkpoint (
            seq INTEGER PRIMARY KEY, text TEXT NOT NULL, signature TEXT NOT NULL
        ) STRICT;
        CREATE TRIGGER record_is_final BEFORE UPDATE ON record
        BEGIN SELECT RAISE(ABORT, 'the audit is only appended to'); END;
        CREATE TRIGGER record_is_kept BEFORE DELETE ON record
        WHEN old.seq > (SELECT coalesce(max(seq), 0) FROM checkpoint)
        BEGIN SELECT RAISE(ABORT, 'no signed checkpoint stands for this record'); END;
    "],
};

/// The end of a chain: enough to tell later whether it has been changed or cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The chain that it is of.
    pub chain: String,
    pub seq: u64,
    pub hash: String,
    /// When it was the end.
    pub at: Timestamp,
}

/// A chain that can be appended to, by as many processes as there are.
#[derive(Debug)]
pub struct Chain {
    pub(super) connection: Connection,
    id: String,
    /// Whether it was begun by this opening.
    pub(super) is_new: bool,
}

impl Chain {
    /// Opens the chain of this place, or begins one; `known` is the end of the one that was there, where the caller
    /// knows it. A file that is damaged is set aside.
    ///
    /// # Errors
    ///
    /// See [`store::open`].
    pub fn open(
        place: &Place,
        known: Option<&Head>,
    ) -> Result<(Self, Option<SetAside>), StoreError> {
        let path = &place.database;
        let opened = store::open(path, &SCHEMA)?;
        let mut chain = Self { connection: opened.connection, id: String::new(), is_new: false };
        let aside = opened.set_aside;
        let result = chain.begin(aside.as_ref(), known);
        match result.map_err(|why| StoreError::of(path, why)) {
            Ok(()) => Ok((chain, aside)),
            Err(error) => Err(error),
        }
    }

    /// Appends, all or nothing; what is returned is the number of the first, and the end.
    pub fn append(&mut self, entries: &[(Timestamp, Entry)]) -> rusqlite::Result<(u64, Head)> {
        self.append_linked(entries, &BTreeMap::new())
    }

    /// The same with outcomes, by their places, of what is asked for at other places before them.
    pub(super) fn append_linked(
        &mut self,
        entries: &[(Timestamp, Entry)],
        links: &BTreeMap<usize, usize>,
    ) -> rusqlite::Result<(u64, Head)> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut seq, mut hash) = end(&transaction)?.unwrap_or((0, NOTHING.to_owned()));
        let first = seq + 1;
        let mut latest = Timestamp::now();
        {
            let mut insert =
                transaction.prepare("INSERT INTO record (seq, line, hash) VALUES (?1, ?2, ?3)")?;
            for (place, (at, entry)) in entries.iter().enumerate() {
                seq += 1;
                let of = links.get(&place).map(|asked| first + *asked as u64).or(entry.of);
                let entry = Entry { of, ..entry.clone() };
                let (line, next) = Record::line(seq, *at, &hash, entry);
                insert.execute(params![row(seq), line, next])?;
                (hash, latest) = (next, *at);
            }
        }
        transaction.commit()?;
        Ok((first, Head { chain: self.id.clone(), seq, hash, at: latest }))
    }

    /// Whether the chain still holds this end, or goes on from it.
    pub fn holds(&self, head: &Head) -> rusqlite::Result<bool> {
        Ok(head.chain == self.id
            && hash_of(&self.connection, head.seq)?.as_ref() == Some(&head.hash))
    }

    pub fn head(&self) -> rusqlite::Result<Option<Head>> {
        head(&self.connection)
    }

    /// Signs what the chain is up to this record, if that is not done yet.
    pub fn checkpoint(&mut self, seq: u64, key: &SigningKey) -> Result<(), CheckpointError> {
        let signed = self.connection.query_row(
            "SELECT count(*) FROM checkpoint WHERE seq = ?1",
            [row(seq)],
            |found| found.get::<_, i64>(0),
        )?;
        let Some(hash) = hash_of(&self.connection, seq)?.filter(|_| signed == 0) else {
            return Ok(());
        };
        let head = Head { chain: self.id.clone(), seq, hash, at: Timestamp::now() };
        let (text, signature) = sign(&head, key).map_err(CheckpointError::Key)?;
        self.connection.execute(
            "INSERT OR IGNORE INTO checkpoint (seq, text, signature) VALUES (?1, ?2, ?3)",
            params![row(seq), text, signature],
        )?;
        Ok(())
    }

    /// Whether the record that names the signing key last names this one.
    pub(super) fn knows_key(&self, public: &str) -> rusqlite::Result<bool> {
        let named = self
            .connection
            .query_row(
                "SELECT json_extract(line, '$.subject.id') FROM record
                 WHERE CASE WHEN json_valid(line) THEN json_extract(line, '$.kind') END = 'key' ORDER BY seq DESC LIMIT 1",
                [],
                |found| found.get::<_, Option<String>>(0),
            )
            .optional()?;
        Ok(named.flatten().as_deref() == Some(public))
    }

    /// Begins it where nothing has begun, saying what was there before.
    fn begin(&mut self, aside: Option<&SetAside>, known: Option<&Head>) -> rusqlite::Result<()> {
        let before = match (known, aside) {
            (Some(head), _) => Some(head.clone()),
            (None, Some(aside)) => rescue(&aside.path),
            (None, None) => None,
        };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim_end();
        let mut entry = Entry::new(Kind::ChainBegun, Who::Daemon)
            .on(Subject::new("host", host))
            .because("version", [env!("CARGO_PKG_VERSION")]);
        if let Some(aside) = aside {
            entry = entry
                .because("set-aside", [aside.path.display().to_string()])
                .why(format!("the audit of before was damaged: {}", aside.why));
        } else if before.is_some() {
            entry = entry.why("the audit of before is gone");
        }
        if aside.is_some() || before.is_some() {
            let head = before.map_or_else(|| "not known".to_owned(), |head| line::to_line(&head));
            entry = entry.because("last-known-head", [head]);
        }
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let id =
            transaction.query_row("SELECT id FROM chain", [], |found| found.get(0)).optional()?;
        self.id = match id {
            Some(id) => id,
            None => {
                let (line, hash) = Record::line(1, Timestamp::now(), NOTHING, entry);
                transaction.execute(
                    "INSERT INTO record (seq, line, hash) VALUES (1, ?1, ?2)",
                    params![line, hash],
                )?;
                transaction.execute("INSERT INTO chain (id) VALUES (?1)", [&hash])?;
                self.is_new = true;
                hash
            }
        };
        transaction.commit()
    }
}

/// Why nothing was signed.
#[derive(Debug)]
pub enum CheckpointError {
    Key(String),
    Store(rusqlite::Error),
}

impl From<rusqlite::Error> for CheckpointError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

/// Opens the chain of a file to read.
///
/// # Errors
///
/// See [`store::read`].
pub fn reader(path: &Path) -> Result<Connection, StoreError> {
    store::read(path, &SCHEMA)
}

/// The end of the chain in this file.
pub fn head(connection: &Connection) -> rusqlite::Result<Option<Head>> {
    let last = "SELECT chain.id, record.seq, record.hash, record.line FROM record, chain
                ORDER BY record.seq DESC LIMIT 1";
    let found = connection
        .query_row(last, [], |found| {
            let (chain, seq, hash) = (found.get(0)?, found.get::<_, i64>(1)?, found.get(2)?);
            Ok((chain, seq, hash, found.get::<_, String>(3)?))
        })
        .optional()?;
    Ok(found.map(|(chain, seq, hash, line)| {
        let at = serde_json::from_str::<Record>(&line).map_or(Timestamp::UNIX_EPOCH, |one| one.at);
        Head { chain, seq: u64::try_from(seq).unwrap_or_default(), hash, at }
    }))
}

/// A record's line and hash.
pub fn record(connection: &Connection, seq: u64) -> rusqlite::Result<Option<(String, String)>> {
    connection
        .query_row("SELECT line, hash FROM record WHERE seq = ?1", [row(seq)], |found| {
            Ok((found.get(0)?, found.get(1)?))
        })
        .optional()
}

/// How much later a record may have come into the chain than another one that says it is as old.
const DISORDER: Duration = Duration::from_secs(60 * 60);

/// Which of these texts records have as the evidence of that name, of those that are not older than `since`. Where the
/// clock was set back by more than an hour later on, some may not be found.
pub fn mentioned(
    connection: &Connection,
    name: &str,
    since: Timestamp,
    texts: &BTreeSet<String>,
) -> rusqlite::Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Known {
        at: Timestamp,
        #[serde(default)]
        evidence: BTreeMap<String, Vec<String>>,
    }
    let mut found = BTreeSet::new();
    let mut latest = connection.prepare("SELECT line FROM record ORDER BY seq DESC")?;
    let mut rows = latest.query([])?;
    while found.len() < texts.len()
        && let Some(row) = rows.next()?
    {
        let Ok(known) = serde_json::from_str::<Known>(row.get_ref(0)?.as_str()?) else { continue };
        if known.at.checked_add(DISORDER).is_ok_and(|at| at < since) {
            break;
        }
        let has = known.evidence.get(name).into_iter().flatten();
        found.extend(has.filter(|text| texts.contains(*text)).cloned());
    }
    Ok(found)
}

/// What was asked by way of the fleet, the latest last, so many at the most: by which monitor and which command.
pub fn fleet_commands(
    connection: &Connection,
    most: usize,
) -> rusqlite::Result<Vec<(String, Uuid)>> {
    let mut find = connection.prepare(
        "SELECT line FROM record WHERE line LIKE '%\"type\":\"fleet\"%' ORDER BY seq DESC",
    )?;
    let lines = find.query_map([], |found| found.get::<_, String>(0))?;
    let mut commands = Vec::new();
    for line in lines {
        let Ok(record) = serde_json::from_str::<Record>(&line?) else { continue };
        if let (Kind::ActionAsked, Who::Fleet { monitor, command, .. }) =
            (record.entry.kind, record.entry.who)
        {
            commands.push((monitor, command));
        }
        if commands.len() >= most {
            break;
        }
    }
    commands.reverse();
    Ok(commands)
}

/// Records behind this number in their order, so many at the most: number, hash and line.
pub fn behind(
    connection: &Connection,
    seq: u64,
    most: u32,
) -> rusqlite::Result<Vec<(u64, String, String)>> {
    let mut some = connection
        .prepare("SELECT seq, hash, line FROM record WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let records = some.query_map((row(seq), most), |found| {
        let seq = u64::try_from(found.get::<_, i64>(0)?).unwrap_or_default();
        Ok((seq, found.get(1)?, found.get(2)?))
    })?;
    records.collect()
}

/// The checkpoints, as lines of JSON, by number of the record.
pub fn checkpoints(connection: &Connection) -> rusqlite::Result<Vec<(u64, String)>> {
    #[derive(Serialize)]
    struct Line {
        checkpoint: String,
        signature: String,
    }
    let mut all = connection.prepare("SELECT seq, text, signature FROM checkpoint ORDER BY seq")?;
    let lines = all.query_map([], |found| {
        let line = Line { checkpoint: found.get(1)?, signature: found.get(2)? };
        let seq = u64::try_from(found.get::<_, i64>(0)?).unwrap_or_default();
        Ok((seq, line::to_line(&line)))
    })?;
    lines.collect()
}

/// A head as the text that is signed, and the signature.
pub fn sign(head: &Head, key: &SigningKey) -> Result<(String, String), String> {
    let text = line::to_line(head);
    let signature =
        key.sign(&text, &format!("audit record {} of chain {}", head.seq, head.chain))?;
    Ok((text, signature))
}

/// The end of a chain that is damaged, as far as it can be read.
fn rescue(path: &Path) -> Option<Head> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    head(&Connection::open_with_flags(path, flags).ok()?).ok().flatten()
}

fn end(transaction: &Transaction<'_>) -> rusqlite::Result<Option<(u64, String)>> {
    transaction
        .query_row("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1", [], |found| {
            Ok((u64::try_from(found.get::<_, i64>(0)?).unwrap_or_default(), found.get(1)?))
        })
        .optional()
}

fn hash_of(connection: &Connection, seq: u64) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT hash FROM record WHERE seq = ?1", [row(seq)], |found| found.get(0))
        .optional()
}

/// SQLite's numbers have a sign.
pub(super) fn row(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
