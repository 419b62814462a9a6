//! Network namespaces, held by a file descriptor and so gone with it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

use crate::run;

/// A network namespace.
pub struct NetNs {
    file: File,
}

impl NetNs {
    /// A new one, its loopback up.
    pub fn new() -> Result<Self> {
        let make = || -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot make a network namespace; root can")?;
            File::open("/proc/thread-self/ns/net").context("cannot open the new namespace")
        };
        let file = on_a_thread(make)?;
        let namespace = Self { file };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The one that `/proc/…/ns/net` names.
    pub(crate) fn open(path: &str) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
        Ok(Self { file })
    }

    /// Runs something inside, on a thread that ends with it. Sockets and taps that it opens belong
    /// to the namespace and may be used from outside.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
            inside()
        })
    }

    /// A command that will run inside. It sees the file system of the caller.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let descriptor = self.file.as_raw_fd();
        // SAFETY: only setns is called between fork and exec, on a descriptor that is open in the
        // parent for as long as `self` lives; a closed one would fail the spawn.
        unsafe {
            command.pre_exec(move || {
                let namespace = BorrowedFd::borrow_raw(descriptor);
                setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Into::into)
            });
        }
        command
    }

    /// `ip …` inside, the words separated by blanks.
    pub fn ip(&self, words: &str) -> Result<String> {
        self.tool("ip", words)
    }

    /// `bridge …` inside.
    pub fn bridge(&self, words: &str) -> Result<String> {
        self.tool("bridge", words)
    }

    /// The path by which `ip link set … netns` finds this namespace.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Any such program inside, the words separated by blanks.
    pub fn tool(&self, program: &str, words: &str) -> Result<String> {
        let mut command = self.command(program);
        command.args(words.split_whitespace());
        let result = command.output();
        run::checked(&command, result)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A thread of its own, since a namespace is a thread's property and a thread that has changed its
/// own is not to be used for anything else.
pub(crate) fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
