use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host::Host;
use crate::wait;

/// A real Prometheus Alertmanager.
pub struct Alertmanager<'a> {
    host: &'a Host,
    running: Option<Child>,
    starts: u32,
}

impl<'a> Alertmanager<'a> {
    pub const PORT: u16 = 9093;

    pub fn configure(host: &'a Host) -> Result<Self> {
        let text = "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n";
        std::fs::write(host.path("alertmanager.yml"), text)?;
        Ok(Self { host, running: None, starts: 0 })
    }

    /// Starts one that knows of nothing; returns when it answers.
    pub fn start(&mut self) -> Result<()> {
        self.starts += 1;
        let storage = self.host.path(&format!("alertmanager-{}", self.starts));
        let log = std::fs::File::create(self.host.path("alertmanager.log"))?;
        let mut command = Command::new("prometheus-alertmanager");
        command.arg(format!("--config.file={}", self.host.path("alertmanager.yml").display()));
        command.arg(format!("--storage.path={}", storage.display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{}", Self::PORT));
        command.arg("--cluster.listen-address=");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.running = Some(self.host.spawn(&mut command)?);
        wait::until("the Alertmanager", Duration::from_secs(30), || {
            Ok(self.get("/-/ready").is_ok_and(|text| text.contains("OK")).then_some(()))
        })
    }

    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.running.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// The alerts that fire there now.
    pub fn firing(&self) -> Result<Vec<Value>> {
        let text = self.get("/api/v2/alerts?active=true")?;
        serde_json::from_str(&text).with_context(|| format!("the Alertmanager says {text}"))
    }

    fn get(&self, path: &str) -> Result<String> {
        self.host.network().run(|| {
            let mut stream = TcpStream::connect(("127.0.0.1", Self::PORT))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            let (_, body) = text.split_once("\r\n\r\n").context("no answer over HTTP")?;
            Ok(body.to_owned())
        })
    }
}

impl Drop for Alertmanager<'_> {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
