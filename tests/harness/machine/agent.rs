//! Commands for a machine, by way of QEMU's guest agent.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::wait;

/// How long one answer of the agent's may take.
const ANSWER: Duration = Duration::from_secs(20);
/// The same where it may not run yet.
const GREETING: Duration = Duration::from_secs(2);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(120);

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Said {
    pub code: i64,
    pub out: String,
    pub complaint: String,
}

/// The agent in the machine, and the socket that QEMU has for it.
pub(super) struct Agent {
    path: PathBuf,
    stream: Option<BufReader<UnixStream>>,
}

impl Agent {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, stream: None }
    }

    /// The boot of the machine, or `None` while nobody answers.
    pub(super) fn greet(&mut self) -> Option<String> {
        // Whoever was spoken with may be gone, with half an answer.
        self.stream = None;
        // A machine that goes down answers no more; it is asked again.
        let boot = self.connect().and_then(|()| self.run("cat /proc/sys/kernel/random/boot_id"));
        let boot = boot.ok()?.out.trim().to_owned();
        self.set_patience(ANSWER).ok()?;
        Some(boot)
    }

    fn connect(&mut self) -> Result<()> {
        self.stream = Some(BufReader::new(UnixStream::connect(&self.path)?));
        self.set_patience(GREETING)?;
        let number = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
        self.send(&json!({ "execute": "guest-sync", "arguments": { "id": number } }))?;
        // Answers to earlier greetings come first.
        while self.receive()?["return"] != number {}
        Ok(())
    }

    fn set_patience(&self, patience: Duration) -> Result<()> {
        let stream = self.stream.as_ref().context("the machine is off")?;
        Ok(stream.get_ref().set_read_timeout(Some(patience * wait::slowness()))?)
    }

    /// Starts a command whose end is not waited for.
    pub(super) fn begin(&mut self, command: &str) -> Result<()> {
        self.execute(command).map(drop)
    }

    /// Runs a command of the shell.
    pub(super) fn run(&mut self, command: &str) -> Result<Said> {
        let pid = self.execute(command)?;
        let ended = wait::until(&format!("the end of {command}"), COMMAND, || {
            let status = self.ask("guest-exec-status", &json!({ "pid": pid }))?;
            if status["exited"] != true {
                wait::pause(Duration::from_millis(50));
                return Ok(None);
            }
            Ok(Some(status))
        })?;
        let text = |key: &str| -> Result<String> {
            let bytes = BASE64_STANDARD.decode(ended[key].as_str().unwrap_or_default())?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let code = ended["exitcode"].as_i64().or_else(|| Some(128 + ended["signal"].as_i64()?));
        Ok(Said { code: code.unwrap_or(-1), out: text("out-data")?, complaint: text("err-data")? })
    }

    fn execute(&mut self, command: &str) -> Result<Value> {
        let started = self.ask(
            "guest-exec",
            &json!({ "path": "/bin/sh", "arg": ["-c", command], "capture-output": true }),
        )?;
        Ok(started["pid"].clone())
    }

    fn ask(&mut self, what: &str, arguments: &Value) -> Result<Value> {
        self.send(&json!({ "execute": what, "arguments": arguments }))?;
        let mut answer = self.receive().with_context(|| format!("no answer to {what}"))?;
        match answer["return"].take() {
            Value::Null => bail!("the agent refuses {what}: {}", answer["error"]),
            answer => Ok(answer),
        }
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        let stream = self.stream.as_mut().context("the machine is off")?;
        writeln!(stream.get_mut(), "{message}").context("the agent is gone")
    }

    fn receive(&mut self) -> Result<Value> {
        let stream = self.stream.as_mut().context("the machine is off")?;
        let mut line = String::new();
        match stream.read_line(&mut line).context("the agent says nothing")? {
            0 => bail!("QEMU is gone"),
            _ => Ok(serde_json::from_str(&line)?),
        }
    }
}
