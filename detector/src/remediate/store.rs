//! `remediations.db`: every workflow with its steps and its past, as it was written down last.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use detector_core::remediate::Workflow;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    audit::{Entry, Kind, Who},
    store::{self, Schema, StoreError},
};

const NAME: &str = "remediations.db";

/// The evidence by which a record is found in the audit: a name of its own.
pub(crate) const EVENT: &str = "event";

const SCHEMA: Schema = Schema {
    what: "the file of remediations",
    // "dREM"
    application_id: 0x6452_454d,
    migrations: &[FIRST, OWED, DROPPED],
};

/// The lists of a workflow are rows of their own, in their order.
const FIRST: &str = "
    CREATE TABLE workflow (
        vm TEXT PRIMARY KEY,
        revision INTEGER NOT NULL,
        state TEXT NOT NULL
    ) STRICT;
    CREATE TABLE step (
        vm TEXT NOT NULL REFERENCES workflow (vm) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        state TEXT NOT NULL,
        PRIMARY KEY (vm, number)
    ) STRICT;
    CREATE TABLE event (
        vm TEXT NOT NULL REFERENCES workflow (vm) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        state TEXT NOT NULL,
        PRIMARY KEY (vm, number)
    ) STRICT;
";

/// Records that go with what is written down, until they are in the audit.
const OWED: &str = "
    CREATE TABLE owed (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        entry TEXT NOT NULL
    ) STRICT;
";
/// How many of them were dropped, and nobody has said so in the audit.
const DROPPED: &str = "
    CREATE TABLE dropped (records INTEGER NOT NULL) STRICT;
    INSERT INTO dropped (records) VALUES (0);
";
/// So many are kept while the audit takes none; the oldest go first.
const MOST_OWED: i64 = 4096;

/// The lists, and the tables that they are in.
const LISTS: [(&str, &str); 2] = [("steps", "step"), ("history", "event")];

/// Where workflows are written down.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    /// None after a failure: it is opened anew.
    connection: Option<Connection>,
}

/// A record that the audit is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) number: i64,
    pub(crate) at: Timestamp,
    pub(crate) entry: Entry,
}

/// What was there at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    pub workflows: Vec<Workflow>,
    /// Why there may be more.
    pub lost: Option<String>,
}

impl Store {
    /// Opens the file, and reads what is in it. One that is damaged is set aside, and as long as it lies there it is
    /// not known what people have approved.
    pub(crate) fn open(state: &Path) -> (Self, Recalled) {
        let path = state.join(NAME);
        let mut store = Self { path, connection: None };
        let read = store.connection().map(|connection| all(connection));
        let failed = match read {
            Ok(Ok(workflows)) => {
                let lost = store.damaged().map(|aside| {
                    format!(
                        "{} was damaged: what people had approved in it is not known. Move it away once the VMs \
                         that were patched have been seen to",
                        aside.display()
                    )
                });
                return (store, Recalled { workflows, lost });
            }
            Ok(Err(why)) => StoreError::of(&store.path, why),
            Err(why) => why,
        };
        tracing::error!(error = %failed, "remediations: what was written down cannot be read");
        if failed.is_corrupt() {
            store.connection = None;
            if let Err(error) = store::set_aside(&store.path, &failed.to_string()) {
                tracing::error!(%error, "remediations: nor can it be set aside");
            }
        }
        (store, Recalled { workflows: Vec::new(), lost: Some(failed.to_string()) })
    }

    /// Writes a workflow down as it is now, with what has happened to it for the audit; when this returns both outlast
    /// a loss of power. Answers how many records had to be dropped for it.
    pub(crate) fn keep(
        &mut self,
        workflow: &Workflow,
        at: Timestamp,
        records: Vec<Entry>,
    ) -> Result<u64, String> {
        self.write(|transaction| {
            put(transaction, workflow)?;
            records.into_iter().try_for_each(|entry| owe(transaction, at, &entry))?;
            drop_surplus(transaction)
        })
    }

    /// How many records were dropped without a word about it in the audit.
    pub(crate) fn dropped(&mut self) -> Result<u64, String> {
        self.write(dropped)
    }

    /// The records that nobody has said to be in the audit, in their order; one of them says how many were dropped, if
    /// any were.
    pub(crate) fn owed(&mut self) -> Result<Vec<Owed>, String> {
        self.write(|transaction| {
            let dropped = dropped(transaction)?;
            if dropped > 0 {
                let at = Timestamp::now();
                let entry = Entry::new(Kind::RecordsLost, Who::Daemon)
                    .change(None::<String>, dropped.to_string())
                    .why("the audit has taken no records of remediations for too long: the oldest were dropped")
                    .because(EVENT, [format!("dropped/{at}")]);
                owe(transaction, at, &entry)?;
                transaction.execute("UPDATE dropped SET records = 0", [])?;
            }
            let mut select =
                transaction.prepare("SELECT number, at, entry FROM owed ORDER BY number")?;
            let rows = select.query_map([], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })?;
            let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
            // One that is no record is worth none.
            let owed = rows.into_iter().filter_map(|(number, at, entry)| {
                let (at, entry) = (at.parse().ok()?, serde_json::from_str(&entry).ok()?);
                Some(Owed { number, at, entry })
            });
            Ok(owed.collect())
        })
    }

    /// The record is in the audit. One that was dropped while it was on its way there is not lost.
    pub(crate) fn paid(&mut self, number: i64) -> Result<(), String> {
        self.write(|transaction| {
            let found = transaction.execute("DELETE FROM owed WHERE number = ?1", [number])?;
            let late = "UPDATE dropped SET records = max(records - 1, 0)";
            if found == 0 { transaction.execute(late, []).map(drop) } else { Ok(()) }
        })
    }

    /// Nobody needs it any more.
    pub(crate) fn forget(&mut self, vm: Uuid) -> Result<(), String> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM workflow WHERE vm = ?1", [vm.to_string()]).map(drop)
        })
    }

    fn write<What>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<What>,
    ) -> Result<What, String> {
        let path = self.path.clone();
        let connection = self.connection().map_err(|error| error.to_string())?;
        let result = connection.transaction().and_then(|transaction| {
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        result.map_err(|why| {
            self.connection = None;
            StoreError::of(&path, why).to_string()
        })
    }

    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => store::open(&self.path, &SCHEMA)?.connection,
        };
        Ok(self.connection.insert(connection))
    }

    /// A file that was set aside and still lies there.
    fn damaged(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.path.parent()?).ok()?;
        let aside = format!("{NAME}.damaged-");
        let names = entries.filter_map(Result::ok).map(|entry| entry.path());
        let mut damaged: Vec<_> = names
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with(&aside) && !name.ends_with("-wal") && !name.ends_with("-shm")
            })
            .collect();
        damaged.sort();
        damaged.into_iter().next()
    }
}

fn owe(transaction: &Transaction<'_>, at: Timestamp, entry: &Entry) -> rusqlite::Result<()> {
    let unfit = |why: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(why.into());
    let text = serde_json::to_string(entry).map_err(unfit)?;
    let insert = "INSERT INTO owed (at, entry) VALUES (?1, ?2)";
    transaction.execute(insert, params![at.to_string(), text]).map(drop)
}

fn drop_surplus(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let surplus = "DELETE FROM owed WHERE number <=
                   (SELECT number FROM owed ORDER BY number DESC LIMIT 1 OFFSET ?1)";
    let dropped = transaction.execute(surplus, [MOST_OWED])?;
    if dropped > 0 {
        let count = "UPDATE dropped SET records = records + ?1";
        transaction.execute(count, [dropped as i64])?;
    }
    Ok(dropped as u64)
}

fn dropped(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let records = transaction
        .query_row("SELECT records FROM dropped", [], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(u64::try_from(records.unwrap_or_default()).unwrap_or_default())
}

fn put(transaction: &Transaction<'_>, workflow: &Workflow) -> rusqlite::Result<()> {
    let unfit = |why: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(why.into());
    let vm = workflow.vm.to_string();
    let mut whole = serde_json::to_value(workflow).map_err(unfit)?;
    let lists = LISTS.map(|(name, table)| {
        let list = whole.as_object_mut().and_then(|fields| fields.remove(name));
        (table, list.and_then(|list| list.as_array().cloned()).unwrap_or_default())
    });
    transaction.execute("DELETE FROM workflow WHERE vm = ?1", [&vm])?;
    let revision = i64::try_from(workflow.revision).unwrap_or(i64::MAX);
    transaction.execute(
        "INSERT INTO workflow (vm, revision, state) VALUES (?1, ?2, ?3)",
        params![vm, revision, whole.to_string()],
    )?;
    for (table, list) in lists {
        let insert = format!("INSERT INTO {table} (vm, number, state) VALUES (?1, ?2, ?3)");
        let mut insert = transaction.prepare_cached(&insert)?;
        for (number, one) in (0i64..).zip(list) {
            insert.execute(params![vm, number, one.to_string()])?;
        }
    }
    Ok(())
}

fn all(connection: &Connection) -> rusqlite::Result<Vec<Workflow>> {
    let mut rows: BTreeMap<String, Value> = BTreeMap::new();
    for (vm, state) in texts(connection, "SELECT vm, state FROM workflow")? {
        rows.insert(vm, parse(&state)?);
    }
    for (name, table) in LISTS {
        for row in rows.values_mut() {
            row[name] = Value::Array(Vec::new());
        }
        let select = format!("SELECT vm, state FROM {table} ORDER BY vm, number");
        for (vm, state) in texts(connection, &select)? {
            let list = rows.get_mut(&vm).and_then(|row| row[name].as_array_mut());
            if let Some(list) = list {
                list.push(parse(&state)?);
            }
        }
    }
    rows.into_values().map(|row| serde_json::from_value(row).map_err(unread)).collect()
}

fn texts(connection: &Connection, select: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let mut select = connection.prepare(select)?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn parse(text: &str) -> rusqlite::Result<Value> {
    serde_json::from_str(text).map_err(unread)
}

/// Counts as damage, like a text that is none.
fn unread(why: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, why.into())
}

#[cfg(test)]
mod tests;
