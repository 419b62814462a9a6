//! Reads what images contain, in processes that can do nothing else.
//!
//! A *doorkeeper*, a process of ours, forks *workers*: one at a time waits for a descriptor, reads that file, answers and
//! ends. So nothing that one image does to its reader lasts until the next one is read, and no reader can
//! open a file, make a socket or reach another process ([`crate::sandbox`]). What comes back is taken for what it is:
//! a digest, or the name of a backing file, which is judged before it is followed.

mod doorkeeper;
mod memory;
mod message;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use detector_core::model::Digest;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
};

use super::{
    open::Inode,
    qcow2::{Header, HeaderError},
};
use doorkeeper::Doorkeeper;
use memory::Memory;
use message::{Answer, Question, Reply};

pub(crate) use doorkeeper::serve;

/// How long the header of an image may take to be read.
const PATIENCE: Duration = Duration::from_secs(10);
/// Readers that are stuck for good stay: how often as many again may be started.
const STUCK: Duration = Duration::from_secs(3600);
/// How often whoever waits looks whether it still shall.
const LOOK: Duration = Duration::from_millis(200);

/// That of this process.
static READER: LazyLock<Reader> =
    LazyLock::new(|| Reader::new(Doorkeeper::of_this_program, PATIENCE));
static BYTES_READ: AtomicU64 = AtomicU64::new(0);

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the process that is to read it cannot be started: {0}")]
    Unavailable(io::Error),
    #[error(
        "the process that was to read it has ended without an answer: it broke on what it read, or asked for what it \
         may not do"
    )]
    Broken,
    #[error("the process that was to read it has not answered in time")]
    Late,
    /// Whoever wanted it read does not want it any more.
    #[error("given up")]
    GivenUp,
}

/// Starts what reads files, before one is open: to start a program closes files, and there are file systems that make
/// whoever does so wait for ever.
pub(crate) fn begin() {
    let mut door = lock(&READER.door);
    match (READER.start)() {
        Ok(doorkeeper) => door.doorkeeper = Some(doorkeeper),
        Err(error) => tracing::error!(%error, "no images can be read for now"),
    }
}

/// Reads the header of a qcow2 image.
pub(super) fn header(file: &File, id: Inode) -> Result<Header, HeaderError> {
    READER.header(file, id)
}

/// Reads a file from its first byte to its last; its digest, and how many bytes that is of. `goes_on` is asked now and
/// then whether that is still wanted, and with how much has been read when there is more.
pub(super) fn whole(
    file: &File,
    mut goes_on: impl FnMut(Option<u64>) -> Result<(), ReadError>,
) -> Result<(Digest, u64), ReadError> {
    let mut told = 0;
    let mut counting = |read: Option<u64>| {
        if let Some(read) = read {
            BYTES_READ.fetch_add(read.saturating_sub(told), Ordering::Relaxed);
            told = read;
        }
        goes_on(read)
    };
    match READER.ask(Question::Whole, file, &mut counting)? {
        Answer::Whole(whole) => Ok(whole),
        Answer::Header { .. } | Answer::Refused(_) => Err(ReadError::Broken),
    }
}

/// How many bytes of files have been read as a whole so far.
pub fn bytes_read() -> u64 {
    BYTES_READ.load(Ordering::Relaxed)
}

/// Has files read.
struct Reader {
    start: fn() -> io::Result<Doorkeeper>,
    patience: Duration,
    door: Mutex<Door>,
    headers: Mutex<Memory>,
}

impl Reader {
    fn new(start: fn() -> io::Result<Doorkeeper>, patience: Duration) -> Self {
        Self { start, patience, door: Mutex::default(), headers: Mutex::default() }
    }

    fn header(&self, file: &File, id: Inode) -> Result<Header, HeaderError> {
        if let Some(header) = lock(&self.headers).recall(id, file) {
            return Ok(header);
        }
        let deadline = Instant::now() + self.patience;
        let mut in_time = |_| if Instant::now() < deadline { Ok(()) } else { Err(ReadError::Late) };
        match self.ask(Question::Header, file, &mut in_time) {
            Ok(Answer::Header { header, start }) => {
                lock(&self.headers).keep(id, start, &header);
                Ok(header)
            }
            Ok(Answer::Refused(why)) => Err(why),
            Ok(Answer::Whole(_)) => Err(HeaderError::Unread(ReadError::Broken.to_string())),
            Err(error) => Err(HeaderError::Unread(error.to_string())),
        }
    }

    fn ask(
        &self,
        question: Question,
        file: &File,
        goes_on: &mut dyn FnMut(Option<u64>) -> Result<(), ReadError>,
    ) -> Result<Answer, ReadError> {
        let ours = self.hand_in(question, file).map_err(ReadError::Unavailable)?;
        loop {
            let look = u16::try_from(LOOK.as_millis()).unwrap_or(u16::MAX);
            match poll(&mut [PollFd::new(ours.as_fd(), PollFlags::POLLIN)], look) {
                Ok(0) => goes_on(None)?,
                Ok(_) => match message::receive(&ours)? {
                    Reply::Read(bytes) => goes_on(Some(bytes))?,
                    Reply::Failed(why) => return Err(io::Error::other(why).into()),
                    Reply::Done(answer) => return Ok(answer),
                },
                Err(Errno::EINTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    /// Hands the file to a worker; where its answers come from. A doorkeeper that has gone is replaced, and now and
    /// then one behind whom all are stuck.
    fn hand_in(&self, question: Question, file: &File) -> io::Result<std::os::fd::OwnedFd> {
        let (ours, theirs) = message::pair()?;
        let mut held = lock(&self.door);
        if let Some(doorkeeper) = &held.doorkeeper {
            match doorkeeper.hand_in(question, file.as_fd(), theirs.as_fd()) {
                Ok(()) => return Ok(ours),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    if held.unstuck.is_some_and(|at| now < at + STUCK) {
                        return Err(io::Error::other(
                            "all readers wait for file systems that do not answer",
                        ));
                    }
                    held.unstuck = Some(now);
                    tracing::warn!(
                        "readers of images wait for what does not answer, and others take their place"
                    );
                }
                Err(_) => {}
            }
        }
        let doorkeeper = held.doorkeeper.insert((self.start)()?);
        doorkeeper.hand_in(question, file.as_fd(), theirs.as_fd())?;
        Ok(ours)
    }
}

/// The doorkeeper of now.
#[derive(Default)]
struct Door {
    doorkeeper: Option<Doorkeeper>,
    /// When one was replaced last because all behind it were stuck.
    unstuck: Option<Instant>,
}

/// Nothing here leaves a lock's contents half changed, so that a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
