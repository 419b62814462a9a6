//! The process that waits for files, and those that read them.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Child, Command, Stdio},
};

use detector_core::model::Digest;
use nix::{
    sys::{
        prctl,
        signal::Signal,
        socket,
        time::{TimeVal, TimeValLike},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, close, fork, getpid, getppid},
};
use sha2::{Digest as _, Sha256};

use super::{
    PATIENCE,
    memory::LONGEST_START,
    message::{self, Answer, Question, Reply, Word},
};
use crate::{
    registry::qcow2,
    sandbox::{self, Stage},
};

/// By this word the program is run as the doorkeeper.
#[cfg(not(test))]
const WORD: &str = "read-images";

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;
/// Whoever waits is told every so many bytes.
const TELL_EVERY: u64 = 16 << 20;
/// Readers at a time, those included that wait for a file system which does not answer.
const MOST_READERS: usize = 16;
/// How often the doorkeeper looks which of them have ended, in seconds.
const LOOK: i64 = 1;

/// A doorkeeper; it ends with this value.
pub(super) struct Doorkeeper {
    process: Child,
    way: OwnedFd,
}

impl Doorkeeper {
    #[cfg(not(test))]
    pub(super) fn of_this_program() -> io::Result<Self> {
        let mut command = crate::part::command(WORD, &[])?;
        command.env_clear();
        Self::run(command)
    }

    pub(super) fn run(mut command: Command) -> io::Result<Self> {
        let (way, theirs) = message::pair()?;
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null());
        Ok(Self { process: command.spawn()?, way })
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether somebody still takes what is handed in.
    #[cfg(test)]
    pub(super) fn is_there(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, poll};
        let mut asked = [PollFd::new(self.way.as_fd(), PollFlags::empty())];
        poll(&mut asked, 0u8) == Ok(0)
    }

    pub(super) fn hand_in(
        &self,
        question: Question,
        file: BorrowedFd<'_>,
        replies: BorrowedFd<'_>,
    ) -> io::Result<()> {
        message::hand_over(self.way.as_fd(), question, file, replies)
    }
}

impl Drop for Doorkeeper {
    fn drop(&mut self) {
        // It has ended by itself when this fails; it holds no file, and so nothing keeps it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Is the doorkeeper, on the standard input of this process, until nobody needs one any more.
///
/// # Errors
///
/// It cannot be shut in, and so reads nothing.
pub(crate) fn serve() -> io::Result<()> {
    // SAFETY: this process has one thread, so that the child finds nothing half done by another.
    attend(work, || unsafe { fork() })
}

/// What a worker does.
type Work = fn(Question, &File, &OwnedFd) -> io::Result<Answer>;

/// Has one worker wait for the next file at a time. It never has a file itself: some file systems can make whoever
/// closes one wait for ever.
pub(super) fn attend(work: Work, fork: fn() -> nix::Result<ForkResult>) -> io::Result<()> {
    let (door, theirs) = message::pair()?;
    socket::setsockopt(&door, socket::sockopt::ReceiveTimeout, &TimeVal::seconds(LOOK))?;
    let own = getpid();
    sandbox::enter(Stage::Doorkeeper)?;
    let mut readers = BTreeSet::new();
    let mut waiting = None;
    loop {
        while let Ok(WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..)) =
            waitpid(None, Some(WaitPidFlag::WNOHANG))
        {
            readers.remove(&ended);
            waiting = waiting.filter(|waiting| *waiting != ended);
        }
        if waiting.is_none() && readers.len() < MOST_READERS {
            match fork() {
                Ok(ForkResult::Parent { child }) => {
                    readers.insert(child);
                    waiting = Some(child);
                }
                Ok(ForkResult::Child) => {
                    // What is said to the doorkeeper is not for workers to hear.
                    let _ = close(door.as_raw_fd());
                    read(work, own, &theirs)
                }
                // For want of memory, or of numbers: that passes.
                Err(_) => {}
            }
        }
        match message::hear(&door) {
            Ok(Some(Word::Taken)) => waiting = None,
            Ok(Some(Word::Over)) => return Ok(()),
            Ok(None) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits for a file, as another process, and reads it.
fn read(work: Work, doorkeeper: Pid, door: &OwnedFd) -> ! {
    // Whoever waits without a doorkeeper would be the last one.
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != doorkeeper {
        end(1);
    }
    let taken = message::take_over(io::stdin().as_fd());
    let word = if matches!(taken, Ok(Some(_))) { Word::Taken } else { Word::Over };
    if message::tell(door, word).is_err() {
        end(1);
    }
    let Ok(Some((question, file, replies))) = taken else { end(0) };
    // It goes on with its file though the doorkeeper is replaced, and keeps nobody from seeing that it has gone. From
    // here on it has nothing to say to the doorkeeper either, whatever its file makes of it.
    let closed = close(door.as_raw_fd()).and_then(|()| close(libc::STDIN_FILENO));
    if prctl::set_pdeathsig(None).is_err() || closed.is_err() {
        end(1);
    }
    // It is closed after the answer, by whoever ends this process.
    let file = File::from(file);
    let reply = catch_unwind(AssertUnwindSafe(|| {
        begin(question, &replies)?;
        work(question, &file, &replies)
    }));
    let reply = match reply {
        Ok(Ok(answer)) => Reply::Done(answer),
        Ok(Err(error)) => Reply::Failed(error.to_string()),
        Err(_) => end(1),
    };
    // Where nobody waits any more it does not matter.
    let _ = message::say(&replies, &reply);
    end(0)
}

/// Becomes a worker, which ends when nobody waits for it any more, whatever it is about.
fn begin(question: Question, replies: &OwnedFd) -> io::Result<()> {
    // SIGIO comes when the other end is closed, and ends a process that does not expect it (fcntl(2)).
    // SAFETY: the calls take numbers only, and the descriptor is open.
    let told = unsafe {
        let fd = replies.as_raw_fd();
        let owned = libc::fcntl(fd, libc::F_SETOWN, libc::getpid());
        let flags = libc::fcntl(fd, libc::F_GETFL);
        owned == 0 && flags >= 0 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC) == 0
    };
    if !told {
        return Err(io::Error::last_os_error());
    }
    // Who has given up before that is not heard of otherwise.
    message::say(replies, &Reply::Read(0))?;
    if question == Question::Header {
        // Whoever waits gives up by then; nobody else ends a reader that goes round in circles.
        let seconds = i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX);
        let timer = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: seconds, tv_usec: 0 },
        };
        // SAFETY: it reads the timer for the time of the call.
        if unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }
            != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    sandbox::enter(Stage::Worker)
}

fn work(question: Question, file: &File, replies: &OwnedFd) -> io::Result<Answer> {
    Ok(match question {
        Question::Header => match qcow2::read(file) {
            Ok((header, start)) => {
                Answer::Header { header, start: start.filter(|start| start.len() <= LONGEST_START) }
            }
            Err(why) => Answer::Refused(why),
        },
        Question::Whole => {
            let tell = |bytes| message::say(replies, &Reply::Read(bytes));
            Answer::Whole(whole(file, tell)?)
        }
    })
}

fn whole(file: &File, mut tell: impl FnMut(u64) -> io::Result<()>) -> io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut at: u64 = 0;
    loop {
        let count = match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()), at)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        let earlier = at;
        at += count as u64;
        if earlier / TELL_EVERY != at / TELL_EVERY {
            tell(at)?;
        }
    }
}

/// Ends this process without anything that its parent would have done at its end.
fn end(code: i32) -> ! {
    // SAFETY: it does not return, and runs nothing of this process's.
    unsafe { libc::_exit(code) }
}
