//! Programs that a test starts inside a host, and their numbers there.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::Host;

/// A program that ends with this value.
pub struct Program {
    child: Child,
    pid: u32,
}

impl Program {
    /// Starts it with the words after it.
    pub fn start(host: &Host, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // From here on it ends with the value: a process namespace does not end before all in it.
        let mut program = Self { child: host.spawn(command)?, pid: 0 };
        program.pid = inside(program.child.id())?;
        Ok(program)
    }

    /// Starts it and waits until it says that it is ready.
    pub fn ready(host: &Host, command: &mut Command) -> Result<Self> {
        let mut program = Self::start(host, command)?;
        let mut line = String::new();
        if let Some(stdout) = program.child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            bail!("{} did not get ready: {line:?}", crate::run::line(command));
        }
        Ok(program)
    }

    /// Its number inside the host.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended by itself when this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of a process in the innermost process namespace that it is in.
fn inside(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/status");
    // The name in it is any bytes.
    let text = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let last = line.and_then(|line| line.split_whitespace().next_back());
    last.and_then(|pid| pid.parse().ok()).with_context(|| format!("{path} has no NSpid"))
}
