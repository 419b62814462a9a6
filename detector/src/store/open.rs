use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};

use super::{Schema, SetAside, StoreError, set_aside, set_aside::with_suffix};

/// How long to wait for another process (the daemon, or a command line on the pins) to be done with it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts at what SQLite itself does not wait for.
const PAUSE: Duration = Duration::from_millis(10);
/// What is written ahead is cut back to this many bytes.
const LONGEST_WAL: i64 = 4 << 20;

/// A file that can be written.
#[derive(Debug)]
pub struct Opened {
    pub connection: Connection,
    /// Whether there was none of it before.
    pub is_new: bool,
    /// The one that was in its place and is damaged.
    pub set_aside: Option<SetAside>,
}

/// Opens a file to write, for its owner alone to read (mode 0600), and brings its tables up to date. One that is
/// damaged is set aside, and a new one begins.
///
/// It writes ahead (WAL), so that readers and the writer do not wait for each other, and `synchronous` is `FULL`:
/// what is committed outlasts a loss of power.
///
/// # Errors
///
/// Then nothing has been changed, but for what is damaged, which may have been set aside.
pub fn open(path: &Path, schema: &Schema) -> Result<Opened, StoreError> {
    match try_open(path, schema) {
        Err(StoreError::Corrupt { why, .. }) => {
            let aside = set_aside(path, &why)?;
            Ok(Opened { set_aside: Some(aside), ..try_open(path, schema)? })
        }
        opened => opened,
    }
}

/// Opens a file that is there only to read, also while another process writes it, or when its file system is
/// mounted read-only.
///
/// # Errors
///
/// It is not there, or not of the version that this build makes.
pub fn read(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    if let Err(why) = fs::metadata(path) {
        return Err(match why.kind() {
            io::ErrorKind::NotFound => {
                StoreError::Absent { what: schema.what, path: path.to_owned() }
            }
            _ => StoreError::io(path, why),
        });
    }
    match try_read(path, schema, "mode=ro") {
        // To read what is written ahead takes a file of shared memory. Where none can be made and nothing is
        // written ahead, the file alone is all there is.
        Err(StoreError::Unusable { why, .. }) if needs_memory(&why) && !has_wal(path) => {
            try_read(path, schema, "mode=ro&immutable=1")
        }
        result => result,
    }
}

fn try_open(path: &Path, schema: &Schema) -> Result<Opened, StoreError> {
    let is_new = fs::metadata(path).map_or(true, |meta| meta.len() == 0);
    let mut options = fs::File::options();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|why| StoreError::io(path, why))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |why| StoreError::of(path, why);
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    // What it is comes before anything is written: a file of somebody else stays as it is.
    let version = identify(&connection, path, schema)?;
    if version > schema.version() {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found: version,
            known: schema.version(),
        });
    }
    check(&connection, path)?;
    prepare(&connection).map_err(failed)?;
    migrate(&mut connection, schema).map_err(failed)?;
    Ok(Opened { connection, is_new, set_aside: None })
}

fn try_read(path: &Path, schema: &Schema, how: &str) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let failed = |why| StoreError::of(path, why);
    let connection = Connection::open_with_flags(uri(path, how), flags).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    harden(&connection).map_err(failed)?;
    let (found, known) = (identify(&connection, path, schema)?, schema.version());
    let path = path.to_owned();
    match found {
        0 => Err(StoreError::Absent { what: schema.what, path }),
        found if found > known => Err(StoreError::Newer { path, found, known }),
        found if found < known => Err(StoreError::Older { path, found, known }),
        _ => Ok(connection),
    }
}

/// The version of its tables; 0 of a file that has none.
fn identify(connection: &Connection, path: &Path, schema: &Schema) -> Result<i64, StoreError> {
    let pragma = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(|why| StoreError::of(path, why))
    };
    let tables = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        .map_err(|why| StoreError::of(path, why))?;
    let id = pragma("application_id")?;
    if id == i64::from(schema.application_id) || (id == 0 && tables == 0) {
        return pragma("user_version");
    }
    Err(StoreError::Foreign { path: path.to_owned(), found: i32::try_from(id).unwrap_or(0) })
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let said: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|why| StoreError::of(path, why))?;
    match said.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Corrupt { path: path.to_owned(), why: said }),
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    harden(connection)?;
    // Pages of what is deleted go back to the file system when asked. It counts for a new file only.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    write_ahead(connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", LONGEST_WAL)?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// While another one does the same, SQLite says that the file is busy without waiting first (sqlite.org/wal.html).
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let begun = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if is_busy(&error) && begun.elapsed() < PATIENCE => pause(),
            done => return done,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "SQLite tells nobody that it is not busy any more; there is a deadline"
)]
fn pause() {
    thread::sleep(PAUSE);
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// What is in the file is data: it calls no functions, and makes none of the engine's tables writable.
fn harden(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)
}

fn migrate(connection: &mut Connection, schema: &Schema) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been first.
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    for statements in schema.migrations.iter().skip(done) {
        transaction.execute_batch(statements)?;
    }
    if version < schema.version() {
        transaction.pragma_update(None, "application_id", schema.application_id)?;
        transaction.pragma_update(None, "user_version", schema.version())?;
    }
    transaction.commit()
}

fn needs_memory(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

fn has_wal(path: &Path) -> bool {
    fs::metadata(with_suffix(path, "-wal")).is_ok_and(|meta| meta.len() > 0)
}

/// The path as a URI (sqlite.org/uri.html), in which `?`, `#` and `%` have meanings.
fn uri(path: &Path, query: &str) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'?' | b'#' | b'%' => uri.extend(format!("%{byte:02X}").bytes()),
            byte => uri.push(*byte),
        }
    }
    uri.push(b'?');
    uri.extend(query.bytes());
    std::ffi::OsString::from_vec(uri).into()
}
