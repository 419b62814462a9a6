//! Rows of the outbox, on the disk or in memory.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::{notice::Notice, outbox::Tally};

type Result<T> = rusqlite::Result<T>;

pub(super) fn insert(to: &Connection, notices: &[(String, Notice)]) -> Result<()> {
    let mut insert =
        to.prepare_cached("INSERT INTO outbox (sink, severity, notice) VALUES (?1, ?2, ?3)")?;
    for (sink, notice) in notices {
        let text = serde_json::to_string(notice)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        insert.execute(params![sink, notice.severity() as u8, text])?;
    }
    Ok(())
}

/// The first rows of a sink, by number.
pub(super) fn first(from: &Connection, sink: &str, most: usize) -> Result<Vec<(i64, String)>> {
    let mut select = from
        .prepare_cached("SELECT seq, notice FROM outbox WHERE sink = ?1 ORDER BY seq LIMIT ?2")?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    select.query_map(params![sink, most], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Everything that waits, in order. What cannot be read is left out.
pub(super) fn all(from: &Connection) -> Result<Vec<(String, Notice)>> {
    let mut select = from.prepare_cached("SELECT sink, notice FROM outbox ORDER BY seq")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut all = Vec::new();
    for row in rows {
        let (sink, text): (String, String) = row?;
        all.extend(serde_json::from_str(&text).ok().map(|notice| (sink, notice)));
    }
    Ok(all)
}

/// The oldest of the least severe, with their sinks.
pub(super) fn least(from: &Connection, most: usize) -> Result<Vec<(i64, String)>> {
    let mut select = from.prepare_cached(
        "SELECT seq, sink FROM outbox
         WHERE severity = (SELECT min(severity) FROM outbox) ORDER BY seq LIMIT ?1",
    )?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    select.query_map([most], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

pub(super) fn remove(from: &Connection, rows: &[i64]) -> Result<()> {
    let mut delete = from.prepare_cached("DELETE FROM outbox WHERE seq = ?1")?;
    rows.iter().try_for_each(|seq| delete.execute([seq]).map(drop))
}

pub(super) fn count(from: &Connection, sink: &str) -> Result<u64> {
    let mut count = from.prepare_cached("SELECT count(*) FROM outbox WHERE sink = ?1")?;
    count.query_row([sink], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// Bytes of text, with what a row takes besides.
pub(super) fn size(from: &Connection) -> Result<u64> {
    const BESIDES: &str = "SELECT coalesce(sum(length(notice) + 64), 0) FROM outbox";
    let mut size = from.prepare_cached(BESIDES)?;
    size.query_row([], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

pub(super) fn tallies(from: &Connection) -> Result<BTreeMap<String, Tally>> {
    let mut select = from.prepare("SELECT sink, delivered, refused, dropped FROM tally")?;
    let number = |row: &rusqlite::Row<'_>, column| row.get(column).map(i64::cast_unsigned);
    let rows = select.query_map([], |row| {
        let tally = Tally {
            delivered: number(row, 1)?,
            refused: number(row, 2)?,
            dropped: number(row, 3)?,
        };
        Ok((row.get(0)?, tally))
    })?;
    rows.collect()
}

pub(super) fn write_tally(to: &Connection, sink: &str, tally: Tally) -> Result<()> {
    let mut write = to.prepare_cached(
        "INSERT INTO tally (sink, delivered, refused, dropped) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (sink) DO UPDATE SET delivered = ?2, refused = ?3, dropped = ?4",
    )?;
    let Tally { delivered, refused, dropped } = tally;
    let [delivered, refused, dropped] = [delivered, refused, dropped].map(u64::cast_signed);
    write.execute(params![sink, delivered, refused, dropped]).map(drop)
}
