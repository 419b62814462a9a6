//! How a daemon is started.

use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::Daemon;
use crate::artefacts;

/// What a daemon is started by.
#[derive(Default)]
pub struct Launch {
    /// A program that becomes the daemon, and its arguments.
    pub wrapper: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Daemon<'_> {
    /// How it is started from the next start on.
    pub fn launch_by(&mut self, launch: Launch) {
        self.launch = launch;
    }

    /// Which build of it runs from the next start on, and answers on the command line.
    pub fn replace_binary(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// The number of its process, as this machine knows it.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.running.as_ref().context("the daemon does not run")?.id())
    }

    /// How a person would call the program that its processes with a privilege are runs of.
    pub fn part_line(&self) -> Result<String> {
        Ok(format!("{} --config {}", artefacts::part()?.display(), self.config().display()))
    }

    /// Waits until it has ended by itself, and says how.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        Ok(self.running.take().context("the daemon does not run")?.wait()?)
    }

    /// Sends it a signal.
    pub fn signalled(&self, signal: Signal) -> Result<()> {
        self.signal(signal)
    }
}
