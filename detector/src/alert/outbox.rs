//! What waits for receivers, on the disk: in order for each, bounded, and kept over a restart.
//!
//! Where the disk does not take it (full, read-only, a file that a newer build made) it waits in memory, in
//! tables of the same form, and goes to the disk as soon as that works. So a disk that fails delays nothing,
//! and only a restart meanwhile loses what was not kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Transaction};

use super::{notice::Notice, rows, state::State, tables};
use crate::store::{self, SetAside, StoreError};

/// What waits in memory at the most, in bytes of text.
const IN_MEMORY: u64 = 4 << 20;
/// How many are given up at once when there is no room: to look for room costs more than to make it.
const GIVEN_UP: usize = 16;

/// The outbox, and the state of alerts beside it.
#[derive(Debug)]
pub(super) struct Outbox {
    path: PathBuf,
    disk: Result<Connection, StoreError>,
    memory: Connection,
    /// Bytes of text that may wait on the disk.
    most: u64,
    /// What is on the disk and has been delivered, where that could not be written down.
    done: BTreeSet<i64>,
    /// Why the last write failed. Until one succeeds, the state on the disk is not that of now.
    trouble: Option<String>,
    tallies: BTreeMap<String, Tally>,
}

/// What became of a receiver's notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) delivered: u64,
    /// The receiver does not want them.
    pub(super) refused: u64,
    /// Given up, because there was no room.
    pub(super) dropped: u64,
}

/// A notice that waits, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    place: Place,
    pub(super) notice: Notice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Disk(i64),
    Memory(i64),
}

/// What was there at the start.
#[derive(Debug)]
pub(super) struct Began {
    pub(super) outbox: Outbox,
    pub(super) state: State,
    pub(super) set_aside: Option<SetAside>,
}

impl Outbox {
    /// Opens the file, or goes without.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(super) fn open(path: &Path, most: u64) -> rusqlite::Result<Began> {
        let mut outbox = Self {
            path: path.to_owned(),
            disk: Err(StoreError::Absent { what: tables::SCHEMA.what, path: path.to_owned() }),
            memory: tables::in_memory()?,
            most,
            done: BTreeSet::new(),
            trouble: None,
            tallies: BTreeMap::new(),
        };
        let (mut state, mut set_aside) = (State::default(), None);
        match store::open(path, &tables::SCHEMA) {
            Ok(opened) => {
                let read = State::read(&opened.connection);
                let tallies = rows::tallies(&opened.connection);
                set_aside = opened.set_aside;
                match (read, tallies) {
                    (Ok(read), Ok(tallies)) => {
                        (state, outbox.tallies) = (read, tallies);
                        outbox.disk = Ok(opened.connection);
                    }
                    (Err(error), _) | (_, Err(error)) => {
                        outbox.disk = Err(StoreError::of(path, error));
                    }
                }
            }
            Err(error) => outbox.disk = Err(error),
        }
        outbox.trouble = outbox.disk.as_ref().err().map(ToString::to_string);
        Ok(Began { outbox, state, set_aside })
    }

    /// From now on so many bytes may wait on the disk.
    pub(super) fn limit(&mut self, most: u64) {
        self.most = most;
        self.make_room(self.trouble.is_none());
    }

    /// Why what changes is not kept over a restart for now.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Keeps what has changed of the state, and what receivers are to be told of it: both or neither is on
    /// the disk.
    pub(super) fn commit(&mut self, state: &mut State, notices: &[(String, Notice)]) {
        if notices.is_empty() && !state.is_changed() {
            return;
        }
        // What waits in memory is older, and goes to the disk first.
        let on_disk = self.trouble.is_none()
            && self
                .on_disk(|transaction| {
                    state.write(transaction, false)?;
                    rows::insert(transaction, notices)
                })
                .is_ok();
        match on_disk {
            true => {
                state.written();
                self.make_room(true);
            }
            false => {
                if let Err(error) = rows::insert(&self.memory, notices) {
                    tracing::error!(%error, "alerts: some are lost, there is no memory either");
                }
                self.make_room(false);
            }
        }
    }

    /// Tries whether the disk takes what waits in memory by now.
    pub(super) fn save(&mut self, state: &mut State) {
        if self.trouble.is_none() {
            return;
        }
        if self.disk.is_err() {
            match store::open(&self.path, &tables::SCHEMA) {
                Ok(opened) => self.disk = Ok(opened.connection),
                Err(error) => {
                    self.trouble = Some(error.to_string());
                    self.disk = Err(error);
                    return;
                }
            }
        }
        let Ok(waiting) = rows::all(&self.memory) else { return };
        let done: Vec<_> = self.done.iter().copied().collect();
        let saved = self.on_disk(|transaction| {
            state.write(transaction, true)?;
            rows::remove(transaction, &done)?;
            rows::insert(transaction, &waiting)
        });
        if saved.is_ok() {
            self.trouble = None;
            state.written();
            self.done.clear();
            let _ = self.memory.execute("DELETE FROM outbox", []);
            self.make_room(true);
            tracing::info!(saved = waiting.len(), "alerts: they are kept on the disk again");
        }
    }

    /// The first notices for a receiver, in the order in which they came.
    pub(super) fn next(&mut self, sink: &str, most: usize) -> Vec<Entry> {
        let mut found = Vec::new();
        if let Ok(disk) = &self.disk {
            match rows::first(disk, sink, most + self.done.len()) {
                Ok(rows) => found.extend(
                    rows.into_iter()
                        .filter(|(seq, _)| !self.done.contains(seq))
                        .take(most)
                        .map(|(seq, text)| (Place::Disk(seq), text)),
                ),
                Err(error) => tracing::warn!(%error, "alerts: the outbox cannot be read"),
            }
        }
        if found.len() < most
            && let Ok(rows) = rows::first(&self.memory, sink, most - found.len())
        {
            found.extend(rows.into_iter().map(|(seq, text)| (Place::Memory(seq), text)));
        }
        let (mut entries, mut unread) = (Vec::new(), Vec::new());
        for (place, text) in found {
            match serde_json::from_str(&text) {
                Ok(notice) => entries.push(Entry { place, notice }),
                Err(_) => unread.push(place),
            }
        }
        if !unread.is_empty() {
            tracing::warn!(sink, count = unread.len(), "alerts: of another release, not delivered");
            self.remove(sink, &unread, |tally| &mut tally.dropped);
        }
        entries
    }

    /// These have been delivered.
    pub(super) fn delivered(&mut self, sink: &str, entries: &[Entry]) {
        let places: Vec<_> = entries.iter().map(|entry| entry.place).collect();
        self.remove(sink, &places, |tally| &mut tally.delivered);
    }

    /// The receiver does not want it.
    pub(super) fn refused(&mut self, sink: &str, entry: &Entry) {
        self.remove(sink, &[entry.place], |tally| &mut tally.refused);
    }

    /// How many wait for a receiver, and the first of them.
    pub(super) fn waiting(&mut self, sink: &str) -> (u64, Option<Entry>) {
        let disk = self.disk.as_ref().ok().and_then(|disk| rows::count(disk, sink).ok());
        let memory = rows::count(&self.memory, sink).unwrap_or(0);
        let settled = self.done.len() as u64;
        let count = (disk.unwrap_or(0) + memory).saturating_sub(settled);
        (count, self.next(sink, 1).pop())
    }

    pub(super) fn tally(&self, sink: &str) -> Tally {
        self.tallies.get(sink).copied().unwrap_or_default()
    }

    /// Bytes of text that wait, and may.
    pub(super) fn size(&self) -> (u64, u64) {
        let disk = self.disk.as_ref().ok().and_then(|disk| rows::size(disk).ok());
        (disk.unwrap_or(0) + rows::size(&self.memory).unwrap_or(0), self.most)
    }

    fn remove(&mut self, sink: &str, places: &[Place], count: impl Fn(&mut Tally) -> &mut u64) {
        let tally = self.tallies.entry(sink.to_owned()).or_default();
        *count(tally) += places.len() as u64;
        let tally = *tally;
        let (mut disk, mut memory) = (Vec::new(), Vec::new());
        for place in places {
            match place {
                Place::Disk(seq) => disk.push(*seq),
                Place::Memory(seq) => memory.push(*seq),
            }
        }
        if let Err(error) = rows::remove(&self.memory, &memory) {
            tracing::error!(%error, "alerts: some will be delivered again");
        }
        let written = self.on_disk(|transaction| {
            rows::remove(transaction, &disk)?;
            rows::write_tally(transaction, sink, tally)
        });
        if written.is_err() {
            self.done.extend(disk);
        }
    }

    /// Gives up the oldest of the least severe until what waits has room again.
    fn make_room(&mut self, on_disk: bool) {
        loop {
            let (from, most) = match (&self.disk, on_disk) {
                (Ok(disk), true) => (disk, self.most),
                (Err(_), true) => return,
                (_, false) => (&self.memory, IN_MEMORY.min(self.most)),
            };
            if rows::size(from).is_ok_and(|size| size <= most) {
                return;
            }
            let Ok(least) = rows::least(from, GIVEN_UP) else { return };
            if least.is_empty() {
                return;
            }
            let mut sinks: BTreeMap<String, Vec<Place>> = BTreeMap::new();
            for (seq, sink) in least {
                let place = if on_disk { Place::Disk(seq) } else { Place::Memory(seq) };
                sinks.entry(sink).or_default().push(place);
            }
            for (sink, places) in sinks {
                tracing::warn!(sink, count = places.len(), "alerts: given up, the outbox is full");
                self.remove(&sink, &places, |tally| &mut tally.dropped);
            }
            if on_disk && self.trouble.is_some() {
                return;
            }
        }
    }

    /// Carries out one transaction, and remembers whether that works.
    fn on_disk(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), ()> {
        let Ok(disk) = &mut self.disk else { return Err(()) };
        let result = disk.transaction().and_then(|transaction| {
            work(&transaction)?;
            transaction.commit()
        });
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = StoreError::of(&self.path, error);
                if self.trouble.is_none() {
                    tracing::error!(%error, "alerts: they are not kept over a restart for now");
                }
                self.trouble = Some(error.to_string());
                if error.is_corrupt() {
                    // It is set aside when it is opened again.
                    self.disk = Err(error);
                }
                Err(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
