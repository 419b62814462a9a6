//! How long records are kept, and how many.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::params;

use super::{
    Chain, Entry, Kind, Record, SigningKey, Who,
    chain::{CheckpointError, row},
    verify::faults_up_to,
};

/// So many of the latest stay however old they are, or a clock that is set wrong would remove all.
const LATEST: u64 = 1000;
/// To which part of the limit a file is brought that is beyond it, in hundredths.
const ROOM: u64 = 80;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For ever, where it is zero.
    pub retention: Duration,
    /// Of the database, in bytes.
    pub size: u64,
}

impl Chain {
    /// Removes what is too old or too much, once a signed checkpoint stands for it. The number of the last record
    /// that is gone.
    ///
    /// What is wrong with those records is put on record first: nothing that somebody has changed vanishes by itself.
    pub(super) fn prune(
        &mut self,
        limits: Limits,
        key: &SigningKey,
    ) -> Result<Option<u64>, CheckpointError> {
        let Some(cut) = self.cut(limits)? else { return Ok(None) };
        let faults = faults_up_to(&self.connection, cut)?;
        self.checkpoint(cut, key)?;
        let first: i64 =
            self.connection.query_row("SELECT min(seq) FROM record", [], |found| found.get(0))?;
        let entry = Entry::new(Kind::Pruned, Who::Daemon)
            .change(Some(first.to_string()), cut.to_string())
            .why("retention and size of the audit")
            .because("faults", faults.into_iter().map(|fault| fault.text));
        self.append(&[(Timestamp::now(), entry)])?;
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM record WHERE seq <= ?1", params![row(cut)])?;
        transaction.execute("DELETE FROM checkpoint WHERE seq < ?1", params![row(cut)])?;
        transaction.commit()?;
        self.connection.execute_batch("PRAGMA incremental_vacuum")?;
        Ok(Some(cut))
    }

    /// Bytes that are in use.
    pub(super) fn size(&self) -> rusqlite::Result<u64> {
        let pragma = |name: &str| {
            self.connection.pragma_query_value(None, name, |found| found.get::<_, i64>(0))
        };
        let used = pragma("page_count")? - pragma("freelist_count")?;
        Ok(u64::try_from(used * pragma("page_size")?).unwrap_or_default())
    }

    /// The last record to remove.
    fn cut(&self, limits: Limits) -> rusqlite::Result<Option<u64>> {
        let (first, last): (Option<i64>, Option<i64>) =
            self.connection.query_row("SELECT min(seq), max(seq) FROM record", [], |found| {
                Ok((found.get(0)?, found.get(1)?))
            })?;
        let number = |seq: Option<i64>| seq.and_then(|seq| u64::try_from(seq).ok());
        let (Some(first), Some(last)) = (number(first), number(last)) else { return Ok(None) };
        let size = self.size()?;
        if size > limits.size {
            let kept = u128::from(last - first + 1) * u128::from(limits.size * ROOM / 100);
            let kept = u64::try_from(kept / u128::from(size.max(1))).unwrap_or(u64::MAX).max(1);
            return Ok(last.checked_sub(kept).filter(|cut| *cut >= first));
        }
        if limits.retention.is_zero() {
            return Ok(None);
        }
        let Ok(oldest) = Timestamp::now().checked_sub(limits.retention) else { return Ok(None) };
        let mut records =
            self.connection.prepare("SELECT seq, line FROM record WHERE seq <= ?1 ORDER BY seq")?;
        let mut rows = records.query([row(last.saturating_sub(LATEST))])?;
        let mut cut = None;
        while let Some(found) = rows.next()? {
            let record: Option<Record> = serde_json::from_str(found.get_ref(1)?.as_str()?).ok();
            if record.is_some_and(|record| record.at >= oldest) {
                break;
            }
            cut = number(Some(found.get(0)?));
        }
        Ok(cut)
    }
}
