//! The monitor under test, and somebody who speaks HTTP with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use detector_core::fleet::subject::Holder;
use serde_json::Value;

use crate::host::Host;
use crate::nats::{FLEET, Nats};
use crate::netns::NetNs;
use crate::scene::PATIENCE;
use crate::{artefacts, wait};

pub const PASSWORD: &str = "correct horse battery";
/// Whom it runs as: somebody without a privilege.
pub const USER: u32 = 65534;

/// A monitor in a host; it ends with this value.
pub struct Monitor<'a> {
    host: &'a Host,
    name: String,
    port: u16,
    running: Option<Child>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// By lower-case names; of those that are there twice all values.
    pub headers: BTreeMap<String, Vec<String>>,
    pub text: String,
}

impl<'a> Monitor<'a> {
    /// Starts one that shows a source, which is a section of its configuration; accounts are `vera`, `otto` and `ada`,
    /// with a role each.
    pub fn start(host: &'a Host, name: &str, port: u16, source: &str) -> Result<Self> {
        let mut monitor = Self { host, name: name.to_owned(), port, running: None };
        // It has to reach the daemon's socket.
        open_to_all(host.directory())?;
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\naccounts = {:?}\nsettle_seconds = 2\n{source}",
            monitor.accounts()
        );
        std::fs::write(monitor.config(), text)?;
        for (name, role) in [("vera", "view"), ("otto", "operate"), ("ada", "administer")] {
            monitor.add_account(name, role)?;
        }
        std::os::unix::fs::chown(monitor.accounts(), Some(USER), Some(USER))?;
        monitor.run()?;
        Ok(monitor)
    }

    /// The same of a fleet, in which the monitor has a name of its own.
    pub fn of_fleet(host: &'a Host, nats: &Nats<'_>, own: &str, port: u16) -> Result<Self> {
        let credentials = nats.enrol(&Holder::Monitor(own.parse()?))?;
        // It reaches nothing in the fleet's directory.
        let reachable = host.path(&format!("{own}.creds"));
        std::fs::copy(&credentials, &reachable)?;
        std::os::unix::fs::chown(&reachable, Some(USER), Some(USER))?;
        let authority = host.path(&format!("{own}-ca.pem"));
        std::fs::copy(nats.directory().join("ca.pem"), &authority)?;
        let source = format!(
            "[fleet]\nservers = {:?}\nname = {FLEET:?}\nmonitor = {own:?}\n\
             credentials = {reachable:?}\nauthority = {authority:?}\n",
            nats.urls()
        );
        Self::start(host, own, port, &source)
    }

    fn add_account(&self, name: &str, role: &str) -> Result<()> {
        let mut command = self.command();
        command.args(["account", "add", name, "--role", role]);
        command.stdin(Stdio::piped());
        let mut child = self.host.spawn(&mut command)?;
        let mut input = child.stdin.take().context("it takes nothing")?;
        writeln!(input, "{PASSWORD}")?;
        drop(input);
        let status = child.wait()?;
        if status.success() { Ok(()) } else { bail!("no account {name}: {status}") }
    }

    fn config(&self) -> PathBuf {
        self.host.path(&format!("{}.toml", self.name))
    }

    fn accounts(&self) -> PathBuf {
        self.host.path(&format!("{}-accounts", self.name))
    }

    fn log(&self) -> PathBuf {
        self.host.path(&format!("{}.log", self.name))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
        // The file of accounts is made by whoever administers the host.
        let program = artefacts::monitor().unwrap_or_default();
        if self.accounts().exists() && self.running.is_none() && self.is_owned() {
            command.args([&user, &group, "--clear-groups", "--no-new-privs"]);
        }
        command.arg(program).arg("--config").arg(self.config());
        command
    }

    fn is_owned(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(self.accounts()).is_ok_and(|found| found.uid() == USER)
    }

    /// Starts it (again); returns when it serves.
    pub fn run(&mut self) -> Result<()> {
        let log = File::create(self.log())?;
        let mut command = self.command();
        command.arg("run").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = self.host.spawn(&mut command)?;
        let child = self.running.insert(child);
        let (host, port, log) =
            (self.host, self.port, self.host.path(&format!("{}.log", self.name)));
        wait::until("the monitor to serve", PATIENCE, || {
            if let Some(status) = child.try_wait()? {
                bail!("the monitor ended ({status}):\n{}", std::fs::read_to_string(&log)?);
            }
            let connect = || Ok(TcpStream::connect(("127.0.0.1", port)).is_ok());
            Ok(host.network().run(connect)?.then_some(()))
        })
    }

    /// The worst that can happen to it.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.running.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// The number of its process.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.running.as_ref().context("the monitor does not run")?.id())
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The command by which a person has a browser show its page.
    pub fn how_to_look(&self) -> String {
        format!("{} chromium --no-sandbox {}", self.host.how_to_reach(), self.url())
    }

    /// How a person calls its command line inside the host.
    pub fn command_line(&self) -> Result<String> {
        let program = artefacts::monitor()?;
        Ok(format!("{} --config {}", program.display(), self.config().display()))
    }

    /// What a command of its command line prints, and its exit code.
    pub fn read(&self, words: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(artefacts::monitor()?);
        command.arg("--config").arg(self.config()).args(words);
        let output = self.host.output(&mut command)?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned()))
    }

    /// Somebody who has not logged in.
    pub fn visitor(&self) -> Visitor<'_> {
        Visitor::new(self.host.network(), self.port)
    }

    /// Somebody who has.
    pub fn log_in(&self, name: &str) -> Result<Visitor<'_>> {
        let mut visitor = self.visitor();
        visitor.log_in(name)?;
        Ok(visitor)
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        // The host ends it otherwise.
        let _ = self.kill();
    }
}

/// A browser without a screen.
pub struct Visitor<'a> {
    network: &'a NetNs,
    port: u16,
    pub cookies: BTreeMap<String, String>,
    /// What forms have to send.
    pub csrf: String,
}

impl<'a> Visitor<'a> {
    /// Of what listens at a port of a namespace.
    pub fn new(network: &'a NetNs, port: u16) -> Self {
        Self { network, port, cookies: BTreeMap::new(), csrf: String::new() }
    }

    /// With [`PASSWORD`].
    pub fn log_in(&mut self, name: &str) -> Result<()> {
        let csrf = self.get("/login")?.hidden("csrf")?;
        let fields = [("csrf", csrf.as_str()), ("name", name), ("password", PASSWORD)];
        let entered = self.post("/login", &fields)?;
        if entered.status != 303 {
            bail!("{name} was not let in: {entered:?}");
        }
        let session = self.json("/api/v1/session")?;
        self.csrf = session["csrf"].as_str().unwrap_or_default().to_owned();
        Ok(())
    }

    fn send(&mut self, head: &str, body: &str) -> Result<Answer> {
        let request = format!(
            "{head} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.port,
            self.cookie(),
            body.len()
        );
        // The head's first line comes first.
        let request = match head.split_once("\r\n") {
            None => request,
            Some((line, more)) => {
                let rest = request.split_once(" HTTP/1.1\r\n").map_or("", |(_, rest)| rest);
                format!("{line} HTTP/1.1\r\n{more}\r\n{rest}")
            }
        };
        let port = self.port;
        let bytes = self.network.run(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(request.as_bytes())?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            Ok(bytes)
        })?;
        let text = String::from_utf8(bytes)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            headers.entry(name.to_lowercase()).or_default().push(value.to_owned());
        }
        for cookie in headers.get("set-cookie").into_iter().flatten() {
            let (name, rest) = cookie.split_once('=').context("no cookie")?;
            let value = rest.split(';').next().unwrap_or_default();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(Answer { status: status.context("no status")?, headers, text: body.to_owned() })
    }

    /// Follows what the page is told, as its script does, until that has been silent for `patience`.
    pub fn follow(&self, patience: Duration) -> Result<Changes> {
        let request =
            format!("GET /live HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{}\r\n", self.port, self.cookie());
        let port = self.port;
        let stream = self.network.run(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(patience))?;
            stream.write_all(request.as_bytes())?;
            Ok(stream)
        })?;
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        if line.contains(" 200 ") { Ok(Changes(lines)) } else { bail!("nothing is told: {line}") }
    }

    fn cookie(&self) -> String {
        let pairs: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("Cookie: {}\r\n", pairs.join("; "))
    }

    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(&format!("GET {path}"), "")
    }

    pub fn json(&mut self, path: &str) -> Result<Value> {
        let answer = self.get(path)?;
        serde_json::from_str(&answer.text).with_context(|| format!("{path}: {}", answer.text))
    }

    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        let encode =
            |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let pairs =
            fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        self.send(&format!("POST {path}\r\nContent-Type: application/x-www-form-urlencoded"), &body)
    }

    /// Has something done by the JSON interface.
    pub fn act(&mut self, host: &str, action: &Value) -> Result<Answer> {
        let head = format!(
            "POST /api/v1/hosts/{host}/actions\r\nContent-Type: application/json\r\nX-CSRF-Token: {}",
            self.csrf
        );
        self.send(&head, &action.to_string())
    }
}

/// What a page is told, for as long as somebody listens.
pub struct Changes(BufReader<TcpStream>);

impl Changes {
    /// Waits until there is something else to see.
    pub fn wait(&mut self) -> Result<()> {
        let mut line = String::new();
        while !line.starts_with("event: changed") {
            line.clear();
            if self.0.read_line(&mut line)? == 0 {
                bail!("the monitor tells nothing any more");
            }
        }
        Ok(())
    }
}

impl Answer {
    /// The value of a hidden field.
    pub fn hidden(&self, name: &str) -> Result<String> {
        let begin = format!("name=\"{name}\" value=\"");
        let rest =
            self.text.split(&begin).nth(1).with_context(|| format!("no field {name}: {self:?}"))?;
        Ok(rest.split('"').next().unwrap_or_default().to_owned())
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }
}

fn open_to_all(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?)
}
