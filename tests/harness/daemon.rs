//! The daemon under test, and its command line.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use detector::api::client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::host::Host;
use crate::{artefacts, wait};

#[path = "daemon/files.rs"]
mod files;
#[path = "daemon/launch.rs"]
mod launch;

pub use launch::Launch;

/// How long the first reconciliation may take, in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A template that VMs of the static inventory name. Nothing boots from its image.
pub const LAB_TEMPLATE: &str = r#"id = "lab"
status = "approved"
[[image]]
role = "disk"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
"#;

/// What to write into the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `observe` or `enforce`.
    pub mode: &'static str,
    pub bridges: Vec<&'static str>,
    pub uplinks: Vec<&'static str>,
    /// Addresses that no port may learn.
    pub protected: Vec<String>,
    /// Further keys of the section `network`, as they are.
    pub network: String,
    /// `digest` or `declared`.
    pub evidence: &'static str,
    /// Whether there is a libvirt to ask.
    pub libvirt: bool,
    /// Several of them, or by another way: the URIs in place of the usual one.
    pub uris: Vec<String>,
    /// The static inventory.
    pub inventory: String,
    /// Template manifests, by file name.
    pub templates: Vec<(String, String)>,
    /// Further TOML, appended as it is.
    pub more: String,
}

/// A daemon in a host. It ends with this value; what it has pinned stays as long as the host does.
pub struct Daemon<'a> {
    host: &'a Host,
    binary: PathBuf,
    running: Option<Child>,
    /// In place of the configured one, from the next start on.
    mode: Option<&'static str>,
    /// What the daemon is started by, and with what, from the next start on.
    launch: Launch,
    starts: u32,
}

/// What a command of the command line came to.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub json: Value,
    pub complaint: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: "enforce",
            bridges: vec!["br0"],
            uplinks: vec!["up0"],
            protected: Vec::new(),
            network: String::new(),
            evidence: "declared",
            libvirt: false,
            uris: Vec::new(),
            inventory: String::new(),
            templates: vec![("lab.toml".to_owned(), LAB_TEMPLATE.to_owned())],
            more: String::new(),
        }
    }
}

impl<'a> Daemon<'a> {
    /// Writes the configuration and starts the daemon; returns when it is ready.
    pub fn start(host: &'a Host, settings: &Settings) -> Result<Self> {
        let mut daemon = Self::configure(host, settings)?;
        daemon.run()?;
        Ok(daemon)
    }

    /// Writes the configuration only.
    pub fn configure(host: &'a Host, settings: &Settings) -> Result<Self> {
        let daemon = Self {
            host,
            binary: artefacts::detector()?,
            running: None,
            mode: None,
            launch: Launch::default(),
            starts: 0,
        };
        std::fs::create_dir_all(daemon.path("templates.d"))?;
        for (name, text) in &settings.templates {
            std::fs::write(daemon.path("templates.d").join(name), text)?;
        }
        daemon.write_inventory(&settings.inventory)?;
        std::fs::write(daemon.config(), daemon.text(settings))?;
        Ok(daemon)
    }

    /// Starts it (again); returns when it is ready.
    pub fn run(&mut self) -> Result<()> {
        let log = self.path(&format!("detector-{}.log", self.starts + 1));
        let says = || Ok(std::fs::read_to_string(&log)?.lines().any(says_ready));
        self.run_until(says).with_context(|| std::fs::read_to_string(&log).unwrap_or_default())
    }

    /// The same of one whose log is read elsewhere.
    pub fn run_until(&mut self, mut is_ready: impl FnMut() -> Result<bool>) -> Result<()> {
        self.starts += 1;
        let path = self.log();
        let log = File::create(&path)?;
        let mut words = self.launch.wrapper.iter().map(std::ffi::OsStr::new);
        let mut command = Command::new(words.next().unwrap_or(self.binary.as_os_str()));
        if !self.launch.wrapper.is_empty() {
            command.args(words).arg(&self.binary);
        }
        command.envs(self.launch.environment.iter().map(|(name, value)| (name, value)));
        command.arg("run").arg("--config").arg(self.config()).args(["--log", "json"]);
        command.args(self.mode.map(|mode| ["--mode", mode]).into_iter().flatten());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = self.host.spawn(&mut command)?;
        let child = self.running.insert(child);
        wait::until("the daemon to be ready", PATIENCE, || {
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended ({status})");
            }
            Ok(is_ready()?.then_some(()))
        })
    }

    /// Which mode it is in from the next start on.
    pub fn switch_to(&mut self, mode: &'static str) {
        self.mode = Some(mode);
    }

    /// Tries to start another one with these words before the command, inside `wrapper`; what it
    /// says when it does not start.
    pub fn refusal(&self, wrapper: &[&str], words: &[&str]) -> Result<String> {
        let mut command = Command::new("timeout");
        command.arg("60").args(wrapper).arg(&self.binary);
        command.arg("--config").arg(self.config()).args(words).arg("run");
        let output = self.host.output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(1) => Ok(said),
            code => bail!("expected exit code 1, got {code:?}:\n{said}"),
        }
    }

    /// Stops it in mid-air; [`Self::resume`] lets it go on.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// The worst that can happen to it.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait()
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.wait()
    }

    /// Runs a command of the command line.
    pub fn ask(&self, words: &[&str]) -> Result<Answer> {
        self.answer(self.command(), words)
    }

    /// The same by another user, who is in no group but their own.
    pub fn ask_as(&self, user: u32, words: &[&str]) -> Result<Answer> {
        // The directory is a temporary one of root's.
        std::fs::set_permissions(self.host.directory(), Permissions::from_mode(0o711))?;
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={user}")]);
        command.arg("--clear-groups").arg(&self.binary).arg("--config").arg(self.config());
        self.answer(command, words)
    }

    fn answer(&self, mut command: Command, words: &[&str]) -> Result<Answer> {
        command.args(["--output", "json"]).args(words);
        let output = self.host.output(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let json = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text)
                .with_context(|| format!("detector {} printed {text}", words.join(" ")))?
        };
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Answer { code: output.status.code().unwrap_or(-1), json, complaint })
    }

    /// What a person sees who runs the command.
    pub fn show(&self, words: &[&str]) -> Result<String> {
        let mut command = self.command();
        command.args(words);
        let output = self.host.output(&mut command)?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A connection to its control socket, for many questions in a row.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.path("detector.sock"), PATIENCE)?)
    }

    /// How much processor time it has used.
    pub fn busy(&self) -> Result<Duration> {
        let child = self.running.as_ref().context("the daemon does not run")?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
        // proc_pid_stat(5): behind the name in brackets, user and system time are the 12th and 13th.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let times = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = times.sum::<Result<u64, _>>()?;
        // USER_HZ is 100 on every machine that Linux has VMs on.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// What the journal says so far, each line a JSON object.
    pub fn findings(&self) -> Result<Vec<Value>> {
        let text = match std::fs::read_to_string(self.path("state/findings.jsonl")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).context("findings.jsonl")).collect()
    }

    /// Waits until a finding of this kind has been opened whose title or evidence names the subject.
    pub fn await_finding(&self, kind: &str, subject: &str, patience: Duration) -> Result<Value> {
        wait::until(&format!("the finding {kind} on {subject}"), patience, || {
            let opened = self.findings()?.into_iter().find(|line| {
                line["event"] == "opened"
                    && line["finding"]["kind"] == kind
                    && line["finding"].to_string().contains(subject)
            });
            Ok(opened.map(|mut line| line["finding"].take()))
        })
    }

    /// What it says that somebody has tampered with, or that it could not carry out. What it does itself
    /// is neither; it has had the time to look when this returns.
    pub fn complaints(&self) -> Result<Vec<Value>> {
        /// Longer than between two whole looks.
        const LOOKS: Duration = Duration::from_millis(1_200);
        wait::pause(LOOKS);
        let mut findings = self.findings()?;
        findings.retain(|line| {
            let kind = &line["finding"]["kind"];
            kind == "tampered" || kind == "enforcement-failed"
        });
        Ok(findings)
    }

    /// Waits until the port's status is this one.
    pub fn await_port(&self, port: &str, status: &str, patience: Duration) -> Result<Value> {
        let mut seen = Value::Null;
        wait::until(&format!("{port} to be {status}"), patience, || {
            seen = self.ask(&["port", "show", port])?.json;
            Ok((seen["status"] == status).then(|| seen.clone()))
        })
        .with_context(|| format!("what was seen of {port} last: {seen}"))
    }

    /// Asks as libvirt's qemu hook does when a VM of this description is about to start.
    pub fn ask_hook(&self, name: &str, xml: &str) -> Result<Child> {
        let mut hook = self.command();
        hook.args(["hook", "qemu", name, "start", "begin", "-"]);
        hook.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.host.spawn(&mut hook)?;
        // It sees the end of the description when the pipe is closed.
        child.stdin.take().context("the hook has no standard input")?.write_all(xml.as_bytes())?;
        Ok(child)
    }

    /// The text of libvirt's qemu hook that asks this daemon.
    pub fn hook(&self) -> String {
        format!("#!/bin/sh\nexec {} hook qemu \"$@\"\n", self.command_line())
    }

    /// The same for a libvirt that is not the first one.
    pub fn hook_of(&self, uri: &str) -> String {
        format!("#!/bin/sh\nexec {} hook qemu --uri '{uri}' \"$@\"\n", self.command_line())
    }

    /// Waits until no finding of this kind is open.
    pub fn await_no_finding(&self, kind: &str, patience: Duration) -> Result<()> {
        wait::until(&format!("no finding {kind}"), patience, || {
            let answer = self.ask(&["finding", "list"])?;
            let all = answer.json["findings"].as_array().cloned().unwrap_or_default();
            Ok((!all.iter().any(|finding| finding["kind"] == kind)).then_some(()))
        })
    }

    /// How a person calls the command line inside the host.
    pub fn command_line(&self) -> String {
        format!("{} --config {}", self.binary.display(), self.config().display())
    }

    /// The log of the latest start.
    pub fn log(&self) -> PathBuf {
        self.host.path(&format!("detector-{}.log", self.starts))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(self.config());
        command
    }

    fn config(&self) -> PathBuf {
        self.host.path("detector.toml")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host.path(name)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.running.as_ref().context("the daemon does not run")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal).context("cannot signal the daemon")
    }

    fn wait(&mut self) -> Result<()> {
        if let Some(mut child) = self.running.take() {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            // It has ended by itself when this fails.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn says_ready(line: &str) -> bool {
    let json: Value = serde_json::from_str(line).unwrap_or_default();
    json["fields"]["message"] == "ready" || json["message"] == "ready"
}
