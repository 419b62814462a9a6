//! What the thread knows and does.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{BACKLOG, Job, Trouble, Unable, Unwritten, Waiting};
use crate::{
    audit::{
        Chain, Entry, Head, Kind, Limits, Place, SigningKey, Subject, Who, aside,
        chain::CheckpointError, line,
    },
    store::{self, StoreError},
};

/// How often it looks after the file though nothing happens, and tries again what has failed.
const TICK: Duration = Duration::from_secs(1);
/// Records between two checkpoints at most, and the time between them where there are any.
const CHECKPOINT_RECORDS: u64 = 1000;
const CHECKPOINT_TIME: Duration = Duration::from_secs(60 * 60);
/// How often it looks for what is too old, and after how many records for what is too much.
const PRUNE_TIME: Duration = Duration::from_secs(60 * 60);
const PRUNE_RECORDS: u64 = 256;

/// Actions that were kept, and whose outcome may follow.
const MOST_TICKETS: usize = 1024;

pub(super) struct Scribe {
    place: Place,
    limits: Limits,
    tell: Box<dyn Fn(Trouble) + Send>,
    open: Option<Open>,
    key: Option<SigningKey>,
    /// The end of the chain as it was written last.
    head: Option<Head>,
    pending: VecDeque<Job>,
    /// The numbers of actions that were kept, by which their outcomes know them.
    tickets: BTreeMap<u64, u64>,
    lost: Arc<AtomicU64>,
    trouble: Trouble,
    told: Trouble,
    retry: Option<Instant>,
    /// Whether the command line has left records that are being taken in.
    spooled: bool,
    signed: (u64, Instant),
    pruned: (u64, Option<Instant>),
}

struct Open {
    chain: Chain,
    /// Device and number of the file: one of the same name may be another.
    file: Option<(u64, u64)>,
}

impl Scribe {
    pub(super) fn new(
        place: Place,
        limits: Limits,
        lost: Arc<AtomicU64>,
        tell: Box<dyn Fn(Trouble) + Send>,
    ) -> Self {
        Self {
            place,
            limits,
            tell,
            open: None,
            key: None,
            head: None,
            pending: VecDeque::new(),
            tickets: BTreeMap::new(),
            lost,
            trouble: Trouble::new(),
            told: Trouble::new(),
            retry: None,
            spooled: false,
            signed: (0, Instant::now()),
            pruned: (0, None),
        }
    }

    /// How long it may wait for the next record.
    pub(super) fn due(&self) -> Duration {
        self.retry.map_or(TICK, |at| at.saturating_duration_since(Instant::now()).min(TICK))
    }

    pub(super) fn take(&mut self, job: Job) {
        if job.waiting.is_none() && self.pending.len() >= BACKLOG {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if job.waiting.as_ref().is_some_and(|waiting| waiting.unable != Unable::Wait) {
            // People are not made to wait for the next attempt.
            self.retry = None;
        }
        self.pending.push_back(job);
    }

    /// Writes what waits, unless that has just failed.
    pub(super) fn write(&mut self) {
        if self.retry.is_some_and(|at| Instant::now() < at) {
            return;
        }
        match self.try_write() {
            Ok(()) => {
                self.retry = None;
                if self.trouble.remove("unwritable").is_some() {
                    tracing::info!("audit: written again");
                }
            }
            Err(error) => self.failed(&error),
        }
        self.look_for_damaged();
        self.tell();
    }

    fn try_write(&mut self) -> Result<(), StoreError> {
        let first = self.open_chain()?;
        let lost = self.lost.load(Ordering::Relaxed);
        let mut entries = first;
        let before = entries.len();
        let links = self.take_pending(&mut entries);
        if lost > 0 {
            let entry = Entry::new(Kind::RecordsLost, Who::Daemon)
                .change(None::<String>, lost.to_string())
                .why("they came faster than they could be written, or the disk took none");
            entries.push((Timestamp::now(), entry));
        }
        if entries.is_empty() {
            self.forget_spooled();
            return Ok(());
        }
        let path = self.place.database.clone();
        let Some(open) = &mut self.open else { return Ok(()) };
        let (first, head) =
            open.chain.append_linked(&entries, &links).map_err(|why| StoreError::of(&path, why))?;
        self.head = Some(head);
        self.forget_spooled();
        self.lost.fetch_sub(lost, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "audit: records are lost");
            self.trouble.insert(
                "lost",
                format!("{lost} records, as record {} says", first + entries.len() as u64 - 1),
            );
        }
        let mut last = None;
        for (seq, job) in (first + before as u64..).zip(self.pending.drain(..)) {
            let told = match job.waiting {
                Some(waiting) if waiting.last => {
                    last = Some((waiting.answer, seq));
                    true
                }
                Some(waiting) => waiting.answer.send(Ok(seq)).is_ok(),
                None => false,
            };
            if let Some(ticket) = job.ticket.filter(|_| !told) {
                self.tickets.insert(ticket, seq);
            }
        }
        while self.tickets.len() > MOST_TICKETS {
            self.tickets.pop_first();
        }
        self.look_after(last.is_some());
        if let Some((answer, seq)) = last {
            // What is written ahead comes into the file itself.
            self.open = None;
            drop(answer.send(Ok(seq)));
        }
        Ok(())
    }

    /// What waits, behind what comes first, and which of it is the outcome of which.
    fn take_pending(&self, entries: &mut Vec<(Timestamp, Entry)>) -> BTreeMap<usize, usize> {
        let (mut places, mut links) = (BTreeMap::new(), BTreeMap::new());
        for job in &self.pending {
            let place = entries.len();
            let mut entry = job.entry.clone();
            if let Some(ticket) = job.ticket {
                places.insert(ticket, place);
            }
            if let Some(after) = job.after {
                match places.get(&after) {
                    Some(asked) => drop(links.insert(place, *asked)),
                    None => entry.of = self.tickets.get(&after).copied(),
                }
            }
            entries.push((job.at, entry));
        }
        links
    }

    /// Opens the chain where it is not open, or no longer the file of that name, and says what is to be recorded
    /// first.
    fn open_chain(&mut self) -> Result<Vec<(Timestamp, Entry)>, StoreError> {
        let path = self.place.database.clone();
        let failed = |why| StoreError::of(&path, why);
        if self.open.as_ref().is_some_and(|open| open.file != identity(&path)) {
            tracing::error!(path = %path.display(), "audit: the file was removed or replaced");
            self.open = None;
        }
        let mut entries = Vec::new();
        let opened = self.open.is_none();
        if opened {
            let (chain, aside) = Chain::open(&self.place, self.head.as_ref())?;
            if let Some(aside) = aside {
                tracing::error!(path = %aside.path.display(), why = aside.why, "audit: it was damaged and is set aside");
            }
            if chain.is_new {
                // Its first record says what the one of before ended with.
                self.head = None;
            }
            self.open = Some(Open { chain, file: identity(&path) });
        }
        let Some(Open { chain, .. }) = &self.open else { return Ok(entries) };
        if let Some(head) = &self.head
            && !chain.holds(head).map_err(failed)?
        {
            let now = chain.head().map_err(failed)?;
            let broken = Entry::new(Kind::ChainBroken, Who::Daemon)
                .why("what was written last is not there any more")
                .because("expected", [line::to_line(head)])
                .because("found", now.as_ref().map(line::to_line));
            tracing::error!("audit: what was written last is not there any more");
            self.trouble
                .insert("broken", format!("record {} is not there as it was written", head.seq));
            entries.push((Timestamp::now(), broken));
            self.head = now;
        }
        if opened {
            let key = self.take_key();
            let Some(Open { chain, .. }) = &self.open else { return Ok(entries) };
            if let Some(public) = key
                && !chain.knows_key(&public).map_err(failed)?
            {
                let entry = Entry::new(Kind::Key, Who::Daemon).on(Subject::new("key", public));
                entries.push((Timestamp::now(), entry));
            }
            self.spooled = self.place.spool.exists();
            entries.extend(aside::spooled(&self.place, chain).map_err(failed)?);
        }
        Ok(entries)
    }

    fn take_key(&mut self) -> Option<String> {
        match SigningKey::load_or_make(&self.place) {
            Ok((key, _)) => {
                self.trouble.remove("unsigned");
                let public = key.public();
                self.key = Some(key);
                Some(public)
            }
            Err(error) => {
                self.trouble.insert("unsigned", error.to_string());
                None
            }
        }
    }

    fn failed(&mut self, error: &StoreError) {
        self.open = None;
        self.retry = Some(Instant::now() + TICK);
        let mut why = error.to_string();
        if error.is_corrupt() {
            match store::set_aside(&self.place.database, &why) {
                // A new one begins at once.
                Ok(_) => self.retry = None,
                Err(error) => why = format!("{why}; it cannot be set aside: {error}"),
            }
        }
        if self.trouble.get("unwritable") != Some(&why) {
            tracing::error!(why, "audit: it cannot be written");
            self.trouble.insert("unwritable", why.clone());
        }
        self.pending.retain_mut(|job| match job.waiting.take() {
            None => true,
            waiting @ Some(Waiting { unable: Unable::Wait, .. }) => {
                job.waiting = waiting;
                true
            }
            Some(Waiting { answer, unable: Unable::Keep, .. }) => {
                let entry = line::to_line(&job.entry);
                tracing::warn!(entry, "audit: kept until it can be written");
                drop(answer.send(Err(Unwritten::Kept)));
                true
            }
            Some(Waiting { answer, unable: Unable::Refuse, .. }) => {
                drop(answer.send(Err(Unwritten::Refused(why.clone()))));
                false
            }
        });
    }

    /// What was spooled is in the chain by now.
    fn forget_spooled(&mut self) {
        if std::mem::take(&mut self.spooled)
            && let Err(error) = fs::remove_file(&self.place.spool)
        {
            tracing::warn!(%error, "audit: what was done meanwhile is on record, and its file stays");
        }
    }

    /// What has to be done now and then.
    pub(super) fn maintain(&mut self) {
        if self.open.is_some() {
            self.look_after(false);
        }
        self.tell();
    }

    /// Signs and prunes, where it is time to.
    fn look_after(&mut self, last: bool) {
        let (Some(open), Some(key), Some(head)) = (&mut self.open, &self.key, &self.head) else {
            return;
        };
        let seq = head.seq;
        let (signed, when) = self.signed;
        let is_due = seq >= signed + CHECKPOINT_RECORDS || when.elapsed() >= CHECKPOINT_TIME;
        let mut result = Ok(());
        if seq > signed && (is_due || last || signed == 0) {
            result = open.chain.checkpoint(seq, key);
            self.signed = (seq, Instant::now());
        }
        let (at, when) = self.pruned;
        let is_time = when.is_none_or(|when| when.elapsed() >= PRUNE_TIME);
        if result.is_ok() && (is_time || seq >= at + PRUNE_RECORDS) {
            self.pruned = (seq, if is_time { Some(Instant::now()) } else { when });
            result = match open.chain.size() {
                Ok(size) if is_time || size > self.limits.size => {
                    open.chain.prune(self.limits, key).map(|cut| {
                        if let Some(cut) = cut {
                            tracing::info!(cut, "audit: records up to this one are removed");
                        }
                    })
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            };
            self.head = open.chain.head().ok().flatten().or(self.head.take());
        }
        match result {
            Ok(()) => {}
            Err(CheckpointError::Key(why)) => drop(self.trouble.insert("unsigned", why)),
            Err(CheckpointError::Store(error)) => {
                let error = StoreError::of(&self.place.database, error);
                self.failed(&error);
            }
        }
    }

    /// Damaged files stay in mind until a person has moved them away.
    fn look_for_damaged(&mut self) {
        let name = self.place.database.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!("{name}.damaged-");
        let directory = self.place.database.parent().unwrap_or(Path::new("."));
        let files = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut damaged: Vec<_> = files
            .filter_map(|file| file.file_name().into_string().ok())
            .filter(|name| {
                name.starts_with(&prefix) && !name.ends_with("-wal") && !name.ends_with("-shm")
            })
            .collect();
        damaged.sort();
        match damaged.last() {
            Some(latest) => {
                let path = directory.join(latest);
                self.trouble.insert("set-aside", path.display().to_string());
            }
            None => drop(self.trouble.remove("set-aside")),
        }
    }

    fn tell(&mut self) {
        if self.trouble != self.told {
            self.told = self.trouble.clone();
            (self.tell)(self.trouble.clone());
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
