//! The tables of the outbox.

use rusqlite::Connection;

use crate::store::Schema;

/// `outbox.db`: what is open, what people have said of it, and what waits for receivers.
pub(super) const SCHEMA: Schema = Schema {
    what: "the outbox of alerts",
    // "dOUT"
    application_id: 0x644f_5554,
    migrations: &[FIRST],
};

const FIRST: &str = "
    CREATE TABLE alert (
        key TEXT PRIMARY KEY,
        alert TEXT NOT NULL,
        told INTEGER NOT NULL,
        view TEXT NOT NULL
    ) STRICT;
    CREATE TABLE mark (
        deed TEXT NOT NULL,
        what TEXT NOT NULL,
        mark TEXT NOT NULL,
        PRIMARY KEY (deed, what)
    ) STRICT;
    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        sink TEXT NOT NULL,
        severity INTEGER NOT NULL,
        notice TEXT NOT NULL
    ) STRICT;
    CREATE INDEX outbox_by_sink ON outbox (sink, seq);
    CREATE INDEX outbox_by_severity ON outbox (severity, seq);
    CREATE TABLE tally (
        sink TEXT PRIMARY KEY,
        delivered INTEGER NOT NULL,
        refused INTEGER NOT NULL,
        dropped INTEGER NOT NULL
    ) STRICT;
";

/// The same tables in memory, for while there is no disk to write to.
pub(super) fn in_memory() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(FIRST)?;
    Ok(connection)
}
