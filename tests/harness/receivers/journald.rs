use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::wait;

/// systemd's own journal, of a host that has none else. Nobody keeps the streams to it when it ends, as the service
/// manager would.
pub struct Journald<'a> {
    host: &'a Host,
    running: Option<Child>,
}

impl<'a> Journald<'a> {
    /// It keeps entries in memory, whatever this machine has configured.
    pub fn start(host: &'a Host) -> Result<Self> {
        const PREPARE: &str = "set -e
mkdir -p /run/systemd /run/log
mount -t tmpfs tmpfs /run/systemd
mount -t tmpfs tmpfs /run/log
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d
printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\nRateLimitIntervalSec=0\\n' \
    >/run/systemd/journald.conf.d/lab.conf
";
        host.check(Command::new("sh").args(["-c", PREPARE]))?;
        let mut journald = Self { host, running: None };
        journald.run()?;
        Ok(journald)
    }

    /// Starts it again; returns when it listens.
    pub fn run(&mut self) -> Result<()> {
        let mut command = Command::new("/usr/lib/systemd/systemd-journald");
        let log = File::options().append(true).create(true).open(self.log())?;
        command.env("SYSTEMD_LOG_TARGET", "console");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.running = Some(self.host.spawn(&mut command)?);
        let listens = "printf 'the journal listens' | timeout 5 systemd-cat -t lab";
        wait::until("the journal to listen", Duration::from_secs(20), || {
            let asked = self.host.output(Command::new("sh").args(["-c", listens]))?;
            Ok(asked.status.success().then_some(()))
        })
        .with_context(|| std::fs::read_to_string(self.log()).unwrap_or_default())
    }

    fn log(&self) -> PathBuf {
        self.host.path("journald.log")
    }

    /// The worst that can happen to it.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.running.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// What `journalctl` shows for a match, in order: a message a line.
    pub fn entries(&self, of: &str) -> Result<Vec<String>> {
        let mut command = Command::new("journalctl");
        command.args(["--directory", "/run/log/journal", "--output", "cat", "--quiet", of]);
        let output = self.host.output(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for Journald<'_> {
    fn drop(&mut self) {
        // The host ends it otherwise.
        let _ = self.kill();
    }
}
