//! The process that waits for files, and those that read them.

use std::{
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
    sys::signal::{SigHandler, Signal, signal},
    unistd::{ForkResult, fork},
};
use sha2::{Digest as _, Sha256};

use super::{
    PATIENCE,
    memory::LONGEST_START,
    message::{self, Answer, Question, Reply},
};
use crate::{
    registry::qcow2,
    sandbox::{self, Stage},
};

/// By this word the program is run as the doorkeeper.
pub(crate) const WORD: &str = "read-images";

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;
/// Whoever waits is told every so many bytes.
const TELL_EVERY: u64 = 16 << 20;

/// A doorkeeper; it ends with this value.
pub(super) struct Doorkeeper {
    process: Child,
    way: OwnedFd,
}

impl Doorkeeper {
    /// Runs this very program anew, also when its file has been replaced meanwhile.
    #[cfg(not(test))]
    pub(super) fn of_this_program() -> io::Result<Self> {
        use std::os::unix::process::CommandExt;

        let mut command = Command::new("/proc/self/exe");
        command.arg0("detector").arg(WORD).env_clear();
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
        // It has ended by itself when this fails; it holds nothing.
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
    attend(work)
}

pub(super) fn attend(work: fn(Question, &File, &OwnedFd) -> io::Result<Answer>) -> io::Result<()> {
    // SAFETY: nothing is called in place of what would be done.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    sandbox::enter(Stage::Doorkeeper)?;
    let stdin = io::stdin();
    while let Some((question, file, replies)) = message::take_over(stdin.as_fd())? {
        // SAFETY: this process has one thread, so that the child finds nothing half done by another.
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => {}
            ForkResult::Child => {
                let reply = catch_unwind(AssertUnwindSafe(|| {
                    begin(question, &replies)?;
                    work(question, &file.into(), &replies)
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
        }
    }
    Ok(())
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
