use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rusqlite::Connection;

use super::*;

const ONE: Schema = Schema {
    what: "notebook",
    application_id: 0x7e57,
    migrations: &["CREATE TABLE note (text TEXT NOT NULL)"],
};
const TWO: Schema = Schema {
    migrations: &[ONE.migrations[0], "ALTER TABLE note ADD COLUMN mark INTEGER NOT NULL DEFAULT 7"],
    ..ONE
};

fn write(connection: &Connection, text: &str) {
    connection.execute("INSERT INTO note (text) VALUES (?1)", [text]).unwrap();
}

fn notes(connection: &Connection) -> Vec<String> {
    let mut statement = connection.prepare("SELECT text FROM note ORDER BY rowid").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn aside(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.contains("damaged") && !name.ends_with("-shm"));
    names.sort();
    names
}

#[test]
fn a_file_begins_empty_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a #1?%20.db");
    let error = read(&path, &ONE).unwrap_err();
    assert!(matches!(error, StoreError::Absent { .. }), "{error}");
    assert!(error.to_string().starts_with("there is no notebook at"), "{error}");
    let first = open(&path, &ONE).unwrap();
    assert!(first.is_new && first.set_aside.is_none());
    write(&first.connection, "kept");
    assert_eq!(notes(&read(&path, &ONE).unwrap()), ["kept"], "beside the writer");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(first);
    let again = open(&path, &ONE).unwrap();
    assert!(!again.is_new);
    assert_eq!(notes(&again.connection), ["kept"]);
    let full: i64 =
        again.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    assert_eq!(full, 2, "what is committed outlasts a loss of power");
}

#[test]
fn tables_go_forward_and_never_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.db");
    write(&open(&path, &ONE).unwrap().connection, "old");
    let older = read(&path, &TWO).unwrap_err();
    assert!(matches!(older, StoreError::Older { found: 1, known: 2, .. }), "{older}");
    let migrated = open(&path, &TWO).unwrap().connection;
    let mark: i64 = migrated.query_row("SELECT mark FROM note", [], |row| row.get(0)).unwrap();
    assert_eq!(mark, 7);
    drop(migrated);
    let before = fs::read(&path).unwrap();
    for error in [open(&path, &ONE).unwrap_err(), read(&path, &ONE).unwrap_err()] {
        assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("notes.db is of a newer detector"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before, "as it was");
    assert!(aside(directory.path()).is_empty());
}

#[test]
fn a_damaged_file_is_set_aside_whole() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("no database at all", |path| fs::write(path, [0x5a; 8192]).unwrap()),
        ("cut off", |path| {
            let whole = fs::read(path).unwrap();
            fs::write(path, &whole[..whole.len() - 4096]).unwrap();
        }),
        ("pages of noise", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[4096..].fill(0xff);
            fs::write(path, bytes).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.db");
        let connection = open(&path, &ONE).unwrap().connection;
        (0..200).for_each(|n| write(&connection, &format!("{n} {}", "x".repeat(100))));
        drop(connection);
        damage(&path);
        let damaged = fs::read(&path).unwrap();
        let opened = open(&path, &ONE).unwrap();
        let moved = opened.set_aside.unwrap_or_else(|| panic!("{name}: it is not noticed"));
        assert_eq!(fs::read(&moved.path).unwrap(), damaged, "{name}: nothing of it is lost");
        assert!(notes(&opened.connection).is_empty() && !moved.why.is_empty(), "{name}");
        assert_eq!(aside(directory.path()).len(), 1, "{name}");
        drop(opened.connection);
        assert!(open(&path, &ONE).unwrap().set_aside.is_none(), "{name}: once is enough");
    }
}

#[test]
fn several_in_one_second_do_not_replace_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.db");
    for _ in 0..3 {
        fs::write(&path, "this is no database, and is long enough to be seen as none").unwrap();
        open(&path, &ONE).unwrap();
    }
    assert_eq!(aside(directory.path()).iter().filter(|name| !name.ends_with("-wal")).count(), 3);
}

#[test]
fn what_is_not_ours_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.db");
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("PRAGMA application_id = 99; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    for error in [open(&path, &ONE).unwrap_err(), read(&path, &ONE).unwrap_err()] {
        assert!(matches!(error, StoreError::Foreign { found: 99, .. }), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_place_that_cannot_be_used_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let gone = directory.path().join("gone/notes.db");
    let error = open(&gone, &ONE).unwrap_err().to_string();
    assert!(error.contains("gone/notes.db") && error.contains("No such file"), "{error}");
    let in_the_way = directory.path().join("directory.db");
    fs::create_dir(&in_the_way).unwrap();
    assert!(open(&in_the_way, &ONE).is_err());
    assert!(read(&in_the_way, &ONE).is_err());
}

#[test]
fn two_who_begin_at_once_make_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.db");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let path = &path;
            scope.spawn(move || write(&open(path, &TWO).unwrap().connection, &n.to_string()));
        }
    });
    let mut all = notes(&read(&path, &TWO).unwrap());
    all.sort();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}
