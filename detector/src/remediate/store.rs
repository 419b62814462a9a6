//! `remediations.db`: every workflow with its steps and its past, as it was written down last.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use detector_core::remediate::Workflow;
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    audit::Entry,
    store::{self, Schema, StoreError},
};

const NAME: &str = "remediations.db";

const SCHEMA: Schema = Schema {
    what: "the file of remediations",
    // "dREM"
    application_id: 0x6452_454d,
    migrations: &[FIRST, OWED],
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
    /// a loss of power.
    pub(crate) fn keep(
        &mut self,
        workflow: &Workflow,
        at: Timestamp,
        records: Vec<Entry>,
    ) -> Result<Vec<Owed>, String> {
        self.write(|transaction| {
            put(transaction, workflow)?;
            records.into_iter().map(|entry| owe(transaction, at, entry)).collect()
        })
    }

    /// The records that nobody has said to be in the audit, in their order.
    pub(crate) fn owed(&mut self) -> Result<Vec<Owed>, String> {
        self.write(|transaction| {
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

    /// The record is in the audit.
    pub(crate) fn paid(&mut self, number: i64) -> Result<(), String> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM owed WHERE number = ?1", [number]).map(drop)
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

fn owe(transaction: &Transaction<'_>, at: Timestamp, entry: Entry) -> rusqlite::Result<Owed> {
    let unfit = |why: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(why.into());
    let text = serde_json::to_string(&entry).map_err(unfit)?;
    transaction
        .execute("INSERT INTO owed (at, entry) VALUES (?1, ?2)", params![at.to_string(), text])?;
    let number = transaction.last_insert_rowid();
    transaction.execute("DELETE FROM owed WHERE number <= ?1", [number - MOST_OWED])?;
    Ok(Owed { number, at, entry })
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
mod tests {
    use detector_core::{
        model::Timestamp,
        remediate::{By, Means, Outcome, Step, Ways, plan},
    };

    use super::*;
    use crate::audit::{Kind, Who};

    fn workflow(number: u8) -> Workflow {
        let outcome = Outcome::Patched { provisioner: None };
        let means = Means::default();
        let ways = Ways { guarded: true, unguarded: false, placed: true };
        let plan = plan(&outcome, &means, ways).unwrap();
        let by = By { uid: 0, at: Timestamp(1), why: "a test".to_owned() };
        let vm = Uuid::from_bytes([number; 16]);
        Workflow::start((vm, "web\u{1b}[2J'; DROP"), outcome, plan, by, 1, None, None).unwrap()
    }

    fn keep(store: &mut Store, workflow: &Workflow) -> Result<(), String> {
        store.keep(workflow, jiff::Timestamp::UNIX_EPOCH, Vec::new()).map(drop)
    }

    /// As one step with the workflow, and until somebody says that they are in the audit.
    #[test]
    fn records_are_owed_until_they_are_paid() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(directory.path());
        let record = |why: &str| Entry::new(Kind::Remediation, Who::Daemon).why(why);
        let at = jiff::Timestamp::UNIX_EPOCH;
        let records = ["one", "two"].map(record).to_vec();
        let kept = store.keep(&workflow(1), at, records).unwrap();
        store.forget(Uuid::from_bytes([1; 16])).unwrap();
        let (mut store, _) = Store::open(directory.path());
        assert_eq!(store.owed().unwrap(), kept);
        store.paid(kept[0].number).unwrap();
        assert_eq!(store.owed().unwrap(), kept[1..]);
        let later = store.keep(&workflow(1), at, vec![record("three")]).unwrap();
        assert_eq!(store.owed().unwrap(), [&kept[1..], &later].concat());
        let many = (0..MOST_OWED).map(|number| record(&number.to_string())).collect();
        store.keep(&workflow(1), at, many).unwrap();
        let owed = store.owed().unwrap();
        assert_eq!((owed.len(), owed[0].entry.why.as_str()), (4096, "0"));
    }

    #[test]
    fn what_is_written_down_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, recalled) = Store::open(directory.path());
        assert_eq!(recalled, Recalled::default());
        let (mut first, second) = (workflow(1), workflow(2));
        keep(&mut store, &first).unwrap();
        keep(&mut store, &second).unwrap();
        first.begin(Step::Quarantine, Timestamp(2)).unwrap();
        keep(&mut store, &first).unwrap();
        let (mut store, recalled) = Store::open(directory.path());
        assert_eq!(recalled.workflows, [first, second.clone()]);
        store.forget(Uuid::from_bytes([1; 16])).unwrap();
        assert_eq!(Store::open(directory.path()).1.workflows, [second]);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_known_to_be() {
        type Damage = fn(&Path);
        let cases: [(&str, Damage); 3] = [
            ("garbage", |path| fs::write(path, "x".repeat(9_000)).unwrap()),
            ("another shape", |path| {
                let connection = Connection::open(path).unwrap();
                connection.execute("UPDATE workflow SET state = '{}'", []).unwrap();
            }),
            ("no JSON", |path| {
                let connection = Connection::open(path).unwrap();
                connection.execute("UPDATE step SET state = 'x'", []).unwrap();
            }),
        ];
        for (name, damage) in cases {
            let directory = tempfile::tempdir().unwrap();
            let (mut store, _) = Store::open(directory.path());
            keep(&mut store, &workflow(1)).unwrap();
            drop(store);
            damage(&directory.path().join(NAME));
            let (mut store, recalled) = Store::open(directory.path());
            assert!(recalled.workflows.is_empty() && recalled.lost.is_some(), "{name}");
            keep(&mut store, &workflow(2)).unwrap();
            drop(store);
            // Also after the next start, until somebody has moved it away.
            let (store, recalled) = Store::open(directory.path());
            assert_eq!(recalled.workflows.len(), 1, "{name}");
            let lost = recalled.lost.expect("what was lost is still lost");
            assert!(lost.contains("was damaged"), "{name}: {lost}");
            fs::remove_file(store.damaged().unwrap()).unwrap();
            assert_eq!(Store::open(directory.path()).1.lost, None, "{name}");
        }
    }

    #[test]
    fn a_disk_that_fails_is_told_of_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(directory.path());
        let path = directory.path().join(NAME);
        store.connection = None;
        fs::rename(&path, directory.path().join("away")).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(keep(&mut store, &workflow(1)).unwrap_err().contains(NAME));
        fs::remove_dir(&path).unwrap();
        keep(&mut store, &workflow(1)).unwrap();
    }
}
