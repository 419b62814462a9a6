//! Copies files byte by byte, through libvirt, and compares them.

use std::{
    fs::File,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use detector_core::model::Digest;
use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};
use virt::{storage_vol::StorageVol, stream::Stream};

use super::{
    Mover, Pool, Progress, Session, StorageError, Tell, file_name,
    journal::{Item, Journal, Phase, Stage, State},
    open, plan, shell, shown,
};
use crate::registry::Image;

/// Bytes that libvirt is asked for at a time: it sends them whether or not they are taken.
const PORTION: u64 = 16 << 20;
/// libvirt's largest packet carries less.
const BUFFER: usize = 256 << 10;
/// Holes that are smaller are copied like data.
const GAP: u64 = 1 << 20;
/// A file with more pieces than this is copied as a whole.
const MOST_PIECES: usize = 100_000;
/// How often a copy is begun anew that turns out to be another.
const ATTEMPTS: u32 = 2;

impl Mover {
    pub(super) fn copy_all(
        &self,
        session: &Session,
        journal: &mut Journal,
        tell: &Tell,
    ) -> Result<(), StorageError> {
        let pool = session.pool(&journal.task.pool)?;
        for number in 0..journal.items.len() {
            if matches!(journal.items[number].stage, Stage::Same(_)) {
                self.expect_source(journal, number)?;
                continue;
            }
            let mut attempts = 0;
            let digest = loop {
                self.attend(session, journal)?;
                self.expect_source(journal, number)?;
                self.copy(session, journal, number, &pool, tell)?;
                if let Some(digest) = self.compare(journal, number, tell)? {
                    break digest;
                }
                attempts += 1;
                if attempts == ATTEMPTS {
                    let item = &journal.items[number];
                    let source = shown(&item.source);
                    let why = format!("the copy of {source} is another than the file each time");
                    // Libvirt does not tell of each write that finds no room.
                    let differs = StorageError::Failed(why);
                    return Err(self.explain(session, &pool, &item.target, differs));
                }
                journal.items[number].stage = Stage::Planned;
                self.keep(journal, "a copy is begun anew", tell)?;
            };
            let item = &mut journal.items[number];
            (item.stage, item.fresh) = (Stage::Same(digest), true);
            let what = format!("{} is copied, and the same", journal.items[number].target);
            self.keep(journal, &what, tell)?;
        }
        Ok(())
    }

    /// The same of all files. All that are to be copied anew are, when the move goes on.
    pub(super) fn expect_sources(&self, journal: &mut Journal) -> Result<(), StorageError> {
        let numbers = 0..journal.items.len();
        let found: Vec<_> = numbers.map(|number| self.expect_source(journal, number)).collect();
        found.into_iter().collect()
    }

    /// That the file is the one which the copy was begun from; otherwise the copy is begun anew.
    fn expect_source(&self, journal: &mut Journal, number: usize) -> Result<(), StorageError> {
        let item = &journal.items[number];
        let now = State::of(&item.source).map_err(|error| {
            StorageError::Interfered(format!(
                "{} of {}: {error}",
                shown(&item.source),
                shell(&journal.name)
            ))
        })?;
        if now.is_same(&item.state) {
            return Ok(());
        }
        let item = &mut journal.items[number];
        (item.state, item.stage, item.fresh) = (now, Stage::Planned, false);
        journal.phase = Phase::Copying;
        self.journals.write(journal.task.domain, journal)?;
        Err(StorageError::Failed(format!(
            "{} has been written to while it was copied; it is copied anew when the move goes on",
            shown(&journal.items[number].source)
        )))
    }

    fn copy(
        &self,
        session: &Session,
        journal: &mut Journal,
        number: usize,
        pool: &Pool,
        tell: &Tell,
    ) -> Result<(), StorageError> {
        if journal.items[number].stage == Stage::Planned {
            // What an earlier attempt has left has something where the file has holes.
            pool.remove(session, &journal.items[number].copy)?;
            journal.items[number].stage = Stage::Copying(0);
            let what = format!("a place for {} is about to be made", journal.items[number].target);
            self.keep(journal, &what, tell)?;
        }
        let source = journal.items[number].source.clone();
        let from = self.pool_of(session, journal, &source)?;
        let from = from.volume(session, &file_name(&source)?)?.ok_or_else(|| unseen(&source))?;
        let to = volume(session, pool, &journal.items[number])?;
        let (item, name) = (&journal.items[number], journal.name.clone());
        let (target, of) = (item.target.clone(), item.state.bytes);
        let Stage::Copying(mut done) = item.stage else { return Ok(()) };
        for (start, end) in pieces(open(&source)?.file(), of)? {
            let mut at = start.max(done);
            while at < end {
                let until = end.min(at.saturating_add(self.segment));
                let handed = hand_over(session, &from, &to, (at, until), &self.stop);
                handed.map_err(|error| self.explain(session, pool, &name, error))?;
                (at, done) = (until, until);
                journal.items[number].stage = Stage::Copying(done);
                self.journals.write(journal.task.domain, journal)?;
                tell(Progress::Copied { target: target.clone(), bytes: done, of });
                self.attend(session, journal)?;
            }
        }
        Ok(())
    }

    /// What a failure is, in a pool that may be full.
    fn explain(
        &self,
        session: &Session,
        pool: &Pool,
        name: &str,
        error: StorageError,
    ) -> StorageError {
        let StorageError::Failed(why) = &error else { return error };
        let full =
            why.contains(Errno::ENOSPC.desc()) || pool.free(session).is_ok_and(|free| free < GAP);
        if !full {
            return error;
        }
        StorageError::Interfered(format!(
            "the storage pool {} has filled up while {} was copied: make room there",
            shell(&pool.name),
            shell(name)
        ))
    }

    /// The digest of both; `None` where they differ.
    fn compare(
        &self,
        journal: &Journal,
        number: usize,
        tell: &Tell,
    ) -> Result<Option<Digest>, StorageError> {
        let item = &journal.items[number];
        tell(Progress::Compares { target: item.target.clone() });
        let copy = open(&item.place)?;
        let digests = [digest(&open(&item.source)?, &self.stop)?, digest(&copy, &self.stop)?];
        // So that its name outlasts a loss of power, as its contents do.
        let directory = File::open(item.place.parent().unwrap_or(Path::new("/")));
        directory.and_then(|directory| directory.sync_all()).map_err(|error| {
            StorageError::Failed(format!("{} is not kept: {error}", shown(&item.place)))
        })?;
        let [source, copied] = digests;
        Ok((source == copied).then_some(source))
    }
}

/// Copies a file as a whole into a volume that is not there yet; the digest of what is there then.
pub(in crate::remediate) fn copy_whole(
    session: &Session,
    source: &Path,
    (pool, name): (&Pool, &str),
    stop: &AtomicBool,
    tell: &Tell,
) -> Result<Digest, StorageError> {
    let image = open(source)?;
    let real = image.real();
    let state = State::of(real)
        .map_err(|error| StorageError::Failed(format!("{}: {error}", shown(real))))?;
    let directory = real.parent().unwrap_or(Path::new("/"));
    let made = format!("detector-clone-{name}");
    let from = match session.pool_at(directory)? {
        Some(pool) => pool,
        None => session.make_pool(&made, directory)?,
    };
    let is_made = from.name == made;
    let copied = || {
        let volume = from.volume(session, &file_name(real)?)?.ok_or_else(|| unseen(real))?;
        let to = make_volume(session, pool, name, state.bytes)?;
        for piece in pieces(image.file(), state.bytes)? {
            hand_over(session, &volume, &to, piece, stop)?;
            let (target, bytes, of) = (name.to_owned(), piece.1, state.bytes);
            tell(Progress::Copied { target, bytes, of });
        }
        digest(&open(&pool.directory.join(name))?, stop)
    };
    let copied = copied();
    if is_made {
        session.end_pool(&made)?;
    }
    copied
}

fn digest(image: &Image, stop: &AtomicBool) -> Result<Digest, StorageError> {
    let digest = image.digest(stop);
    not_stopped(stop)?;
    digest.map_err(StorageError::Failed)
}

fn not_stopped(stop: &AtomicBool) -> Result<(), StorageError> {
    if stop.load(Ordering::Relaxed) { Err(StorageError::Stopped) } else { Ok(()) }
}

fn unseen(file: &Path) -> StorageError {
    StorageError::Failed(format!("libvirt does not see {} in its pool", shown(file)))
}

/// Has libvirt read a piece and write it. It has all of it when this returns.
fn hand_over(
    session: &Session,
    from: &StorageVol,
    to: &StorageVol,
    (start, end): (u64, u64),
    stop: &AtomicBool,
) -> Result<(), StorageError> {
    let up = Flow::open(session, |stream| to.upload(stream, start, end - start, 0))?;
    let mut buffer = vec![0; BUFFER];
    let mut at = start;
    while at < end {
        not_stopped(stop)?;
        let portion = PORTION.min(end - at);
        let down = Flow::open(session, |stream| from.download(stream, at, portion, 0))?;
        let mut left = portion;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let read = down.receive(&mut buffer[..most])?;
            if read == 0 {
                return Err(StorageError::Failed("a file has become shorter".to_owned()));
            }
            up.send(&buffer[..read])?;
            left = left.saturating_sub(read as u64);
        }
        down.finish()?;
        at += portion;
    }
    up.finish()
}

/// The volume that a file is copied into: as long as the file, and empty, where it is new.
fn volume(session: &Session, pool: &Pool, item: &Item) -> Result<StorageVol, StorageError> {
    if let Some(volume) = pool.volume(session, &item.copy)? {
        return Ok(volume);
    }
    if item.stage != Stage::Copying(0) {
        let place = shown(&item.place);
        return Err(StorageError::Interfered(format!("somebody has removed {place} meanwhile")));
    }
    make_volume(session, pool, &item.copy, item.state.bytes)
}

/// An empty volume that is as long as a file. It is nobody's but libvirt's: whoever could read the former file cannot
/// read this one.
pub(super) fn make_volume(
    session: &Session,
    pool: &Pool,
    name: &str,
    bytes: u64,
) -> Result<StorageVol, StorageError> {
    let quoted = plan::quoted(name);
    // Raw, whatever is in it: libvirt would otherwise write a header of its own.
    let xml = format!(
        "<volume><name>{quoted}</name><capacity unit='bytes'>{bytes}</capacity><allocation unit='bytes'>0</allocation>\
         <target><format type='raw'/><permissions><mode>0600</mode></permissions></target></volume>"
    );
    session.ask(&format!("make the volume {name} in {}", pool.name), |_| {
        StorageVol::create_xml(&pool.pool, &xml, 0)
    })
}

/// A stream that is given up where it is not finished.
pub(super) struct Flow<'a> {
    session: &'a Session,
    stream: Option<Stream>,
}

impl<'a> Flow<'a> {
    pub(super) fn open(
        session: &'a Session,
        begin: impl FnOnce(&Stream) -> Result<(), virt::error::Error>,
    ) -> Result<Self, StorageError> {
        let stream = session.ask("move bytes", |connection| {
            let stream = Stream::new(connection, 0)?;
            begin(&stream)?;
            Ok(stream)
        })?;
        Ok(Self { session, stream: Some(stream) })
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.session
            .ask("read a disk", |_| self.stream.as_ref().map_or(Ok(0), |one| one.recv(buffer)))
    }

    pub(super) fn send(&self, mut bytes: &[u8]) -> Result<(), StorageError> {
        while let (Some(stream), false) = (&self.stream, bytes.is_empty()) {
            let sent = self.session.ask("write a disk", |_| stream.send(bytes))?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), StorageError> {
        match self.stream.take() {
            Some(stream) => self.session.ask("have all bytes in place", |_| stream.finish()),
            None => Ok(()),
        }
    }
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take()
            && let Err(error) = stream.abort()
        {
            tracing::debug!(%error, "giving up a stream");
        }
    }
}

/// The pieces of a file that hold anything, in their order, each with its end.
fn pieces(file: &File, bytes: u64) -> Result<Vec<(u64, u64)>, StorageError> {
    let failed =
        |error: Errno| StorageError::Failed(format!("a disk cannot be looked at: {error}"));
    let at = |place: u64| i64::try_from(place).map_err(|_| failed(Errno::EOVERFLOW));
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut from = 0;
    while from < bytes {
        let start = match lseek(file, at(from)?, Whence::SeekData) {
            Ok(start) => start.unsigned_abs(),
            // Nothing but a hole from here on.
            Err(Errno::ENXIO) => break,
            // A file system that does not know.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(vec![(0, bytes)]),
            Err(error) => return Err(failed(error)),
        };
        let end =
            lseek(file, at(start)?, Whence::SeekHole).map_err(failed)?.unsigned_abs().min(bytes);
        match pieces.last_mut() {
            Some(last) if start.saturating_sub(last.1) < GAP => last.1 = end,
            _ => pieces.push((start, end)),
        }
        if pieces.len() > MOST_PIECES {
            return Ok(vec![(0, bytes)]);
        }
        from = end;
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_left_out_and_small_ones_are_not() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = directory.path().join("disk");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        assert_eq!(pieces(&file, 0).unwrap(), []);
        file.set_len(100 << 20).unwrap();
        assert_eq!(pieces(&file, 100 << 20).unwrap(), []);
        for place in [8 << 20, (8 << 20) + (64 << 10), 50 << 20] {
            file.write_all_at(&[7; 4096], place).unwrap();
        }
        let found = pieces(&file, 100 << 20).unwrap();
        assert_eq!(
            found,
            [(8 << 20, (8 << 20) + (64 << 10) + 4096), (50 << 20, (50 << 20) + 4096)]
        );
    }
}
