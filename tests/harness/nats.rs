//! A real NATS server of a fleet inside a host, and whoever speaks to it.

mod relay;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{Client, Event, StatusCode};
use detector::fleet::connection::Access;
use detector_core::fleet::Name;
use detector_core::fleet::subject::Holder;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::host::Host;
use crate::scene::PATIENCE;
use crate::{artefacts, wait};

/// What the fleet is called.
pub const FLEET: &str = "lab";
const PORT: u16 = 4222;
/// Servers of a cluster, and where the first one hears the others.
const CLUSTER: u16 = 3;
const ROUTES: u16 = 6222;
/// How long whoever speaks waits for what must not come.
const BRIEF: Duration = Duration::from_secs(1);
/// How long an answer may take that does come.
const LONG: Duration = Duration::from_secs(5);

/// A fleet's servers, and the directory of its keys.
pub struct Nats<'a> {
    host: &'a Host,
    servers: Vec<Server>,
}

struct Server {
    port: u16,
    config: PathBuf,
    running: Option<Child>,
    starts: u32,
}

impl<'a> Nats<'a> {
    /// Makes the fleet, starts its server and makes its buckets.
    pub fn found(host: &'a Host) -> Result<Self> {
        let mut nats = Self::init(host)?;
        let config = nats.directory().join("server/nats-server.conf");
        nats.servers.push(Server { port: PORT, config, running: None, starts: 0 });
        nats.start()?;
        nats.office(&["prepare"])?;
        Ok(nats)
    }

    /// The same with a cluster of three servers that each keep everything.
    pub fn found_cluster(host: &'a Host) -> Result<Self> {
        let mut nats = Self::init(host)?;
        let made = nats.directory().join("server");
        let text = std::fs::read_to_string(made.join("nats-server.conf"))?;
        let routes: Vec<_> =
            (0..CLUSTER).map(|n| format!("\"nats://127.0.0.1:{}\"", ROUTES + n)).collect();
        for n in 0..CLUSTER {
            let own = nats.directory().join(format!("server-{n}"));
            let mut copy = Command::new("cp");
            host.check(copy.arg("-r").arg(&made).arg(&own))?;
            let port = PORT + n;
            let text = text
                .replace(&made.display().to_string(), &own.display().to_string())
                .replace(&format!("\"127.0.0.1:{PORT}\""), &format!("\"127.0.0.1:{port}\""))
                .replace(&format!("server_name: {FLEET:?}"), &format!("server_name: \"lab-{n}\""));
            let cluster = format!(
                "cluster: {{\n  name: {FLEET:?}\n  listen: \"127.0.0.1:{}\"\n  routes: [{}]\n}}\n",
                ROUTES + n,
                routes.join(", ")
            );
            let config = own.join("nats-server.conf");
            std::fs::write(&config, text + &cluster)?;
            nats.servers.push(Server { port, config, running: None, starts: 0 });
        }
        (0..usize::from(CLUSTER)).try_for_each(|server| nats.start_one(server))?;
        // They elect somebody first.
        let mut last = String::new();
        let prepared = wait::until("the cluster to take buckets", PATIENCE, || {
            let made = nats.office(&["prepare", "--replicas", &CLUSTER.to_string()]);
            last = made.as_ref().err().map(|why| format!("{why:#}")).unwrap_or_default();
            Ok(made.ok().map(drop))
        });
        prepared.with_context(|| last)?;
        Ok(nats)
    }

    fn init(host: &'a Host) -> Result<Self> {
        let nats = Self { host, servers: Vec::new() };
        let directory = nats.directory().display().to_string();
        let words =
            ["init", &directory, "--name", FLEET, "--server", "127.0.0.1", "--listen", "127.0.0.1"];
        nats.detector(&words)?;
        Ok(nats)
    }

    pub fn directory(&self) -> PathBuf {
        self.host.path("fleet")
    }

    /// Starts the server (again); returns when it listens.
    pub fn start(&mut self) -> Result<()> {
        self.start_one(0)
    }

    /// The same of one of several.
    pub fn start_one(&mut self, server: usize) -> Result<()> {
        let Server { port, config, running, starts } = &mut self.servers[server];
        *starts += 1;
        let log = format!("nats-{server}-{starts}.log");
        let log = std::fs::File::create(self.host.path(&log))?;
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(config);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        *running = Some(self.host.spawn(&mut command)?);
        let port = *port;
        wait::until("NATS to listen", PATIENCE, || {
            let connect = move || Ok(TcpStream::connect(("127.0.0.1", port)).is_ok());
            Ok(self.host.network().run(connect)?.then_some(()))
        })
    }

    /// The worst that can happen to it.
    pub fn kill(&mut self) -> Result<()> {
        (0..self.servers.len()).try_for_each(|server| self.kill_one(server))
    }

    /// The same to one of several.
    pub fn kill_one(&mut self, server: usize) -> Result<()> {
        if let Some(mut child) = self.servers[server].running.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Where hosts find it.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("tls://127.0.0.1:{}", server.port)).collect()
    }

    /// The number of the first server's process.
    pub fn pid(&self) -> Result<u32> {
        let running = self.servers.first().and_then(|server| server.running.as_ref());
        Ok(running.context("NATS does not run")?.id())
    }

    /// Makes a key that signs without being asked for a password; the answer is its public part.
    pub fn key(&self, name: &str) -> Result<String> {
        let path = |ending: &str| self.host.path(&format!("{name}.{ending}"));
        let mut make = Command::new("minisign");
        make.args(["-G", "-W", "-f", "-p"]).arg(path("pub")).arg("-s").arg(path("key"));
        self.host.check(&mut make)?;
        let text = std::fs::read_to_string(path("pub"))?;
        Ok(text.lines().nth(1).context("no key")?.to_owned())
    }

    /// Packs, signs and seals a bundle with this policy.
    pub fn bundle(&self, (version, policy, signer): (u32, &str, &str)) -> Result<PathBuf> {
        let directory = self.host.path(&format!("policy-{version}-{signer}"));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("policy.cedar"), policy)?;
        let (text, sealed) = (directory.join("text"), directory.join("sealed"));
        let shown = |path: &Path| path.display().to_string();
        let (directory, said, to) = (shown(&directory), shown(&text), shown(&sealed));
        let version = version.to_string();
        let pack =
            ["policy", "pack", &directory, "--fleet", FLEET, "--serial", &version, "--to", &said];
        self.detector(&pack)?;
        let mut sign = Command::new("minisign");
        sign.args(["-S", "-s"]).arg(self.host.path(&format!("{signer}.key"))).arg("-m").arg(&text);
        self.host.check(&mut sign)?;
        self.detector(&["policy", "seal", &said, "--to", &to])?;
        Ok(sealed)
    }

    /// What `detector fleet` prints.
    pub fn detector(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(artefacts::detector()?);
        command.arg("fleet").args(words);
        self.host.check(&mut command)
    }

    /// The same of a command that takes the fleet's directory.
    pub fn office(&self, words: &[&str]) -> Result<String> {
        let directory = self.directory().display().to_string();
        self.detector(&[words, &["--dir", &directory]].concat())
    }

    /// Gives somebody credentials; the answer is where they are.
    pub fn enrol(&self, holder: &Holder) -> Result<PathBuf> {
        let path = match holder {
            Holder::Host(name) => self.office(&["enrol", name.as_str()])?,
            Holder::Monitor(name) => self.office(&["enrol", name.as_str(), "--monitor"])?,
            Holder::Steward => anyhow::bail!("it is there from the beginning"),
        };
        Ok(path.trim().into())
    }

    /// What to write into a host's configuration.
    pub fn section(&self, host: &str, more: &str) -> Result<String> {
        let credentials = self.enrol(&Holder::Host(host.parse()?))?;
        let authority = self.directory().join("ca.pem");
        Ok(format!(
            "[fleet]\nservers = {:?}\nname = {FLEET:?}\nhost = {host:?}\n\
             credentials = {credentials:?}\nauthority = {authority:?}\ninterval = \"200ms\"\n{more}",
            self.urls()
        ))
    }

    /// Connects as somebody who has been enrolled before.
    pub fn connect(&self, holder: &Holder, credentials: &Path) -> Result<Member> {
        let authority = self.directory().join("ca.pem");
        Member::connect(self.host, self.urls(), (holder, credentials), &authority)
    }

    /// Connects as who may make buckets and offer bundles.
    pub fn steward(&self) -> Result<Member> {
        self.connect(&Holder::Steward, &self.directory().join("credentials/steward.creds"))
    }

    /// Enrols a monitor, and connects as that.
    pub fn monitor(&self) -> Result<Member> {
        let holder = Holder::Monitor("desk".parse()?);
        self.connect(&holder, &self.enrol(&holder)?)
    }
}

impl Drop for Nats<'_> {
    fn drop(&mut self) {
        // The host ends it otherwise.
        let _ = self.kill();
    }
}

/// Somebody who is connected, with what has happened to the connection.
pub struct Member {
    pub client: Client,
    events: Arc<Mutex<Vec<String>>>,
    /// Its threads are in the host.
    runtime: Runtime,
}

impl Member {
    fn connect(
        host: &Host,
        urls: Vec<String>,
        (holder, credentials): (&Holder, &Path),
        authority: &Path,
    ) -> Result<Self> {
        let runtime = host
            .network()
            .run(|| Ok(Builder::new_multi_thread().worker_threads(1).enable_all().build()?))?;
        let events = Arc::new(Mutex::new(Vec::new()));
        let (inbox, credentials) = (holder.inbox(), std::fs::read_to_string(credentials)?);
        let (name, authority, told) = (holder.title(), authority.to_owned(), Arc::clone(&events));
        let connected = runtime.spawn(async move {
            let access = Access {
                urls: &urls,
                credentials: &credentials,
                authority: Some(&authority),
                inbox: &inbox,
                name: &name,
            };
            let options = access.options()?.event_callback(move |event: Event| {
                told.lock().unwrap_or_else(PoisonError::into_inner).push(event.to_string());
                async {}
            });
            anyhow::Ok(options.connect(&urls[..]).await?)
        });
        let client = runtime.block_on(connected)??;
        Ok(Self { client, events, runtime })
    }

    /// Runs something that speaks.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// What has happened to the connection so far.
    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The answer; `None` where there is none for a while.
    pub fn ask(&self, subject: &str, payload: &str) -> Option<Vec<u8>> {
        self.ask_within(BRIEF, subject, payload)
    }

    fn ask_within(&self, patience: Duration, subject: &str, payload: &str) -> Option<Vec<u8>> {
        let asked = self.client.request(subject.to_owned(), payload.to_owned().into());
        let answer = self.run(async { tokio::time::timeout(patience, asked).await });
        let answer = answer.ok()?.ok()?;
        let good = answer.status.is_none_or(|status| status == StatusCode::OK);
        good.then(|| answer.payload.to_vec())
    }

    /// Whether a stream keeps what is said there.
    pub fn keeps(&self, subject: &str) -> bool {
        self.keeps_this(subject, "{}")
    }

    /// The same of something that says more.
    pub fn keeps_this(&self, subject: &str, said: &str) -> bool {
        let answer = self.ask_within(LONG, subject, said);
        let answer = answer.and_then(|answer| serde_json::from_slice::<Value>(&answer).ok());
        answer.is_some_and(|answer| answer["error"].is_null() && answer["seq"].is_u64())
    }

    /// Waits until the server has refused to hear something there.
    pub fn await_refusal(&self, subject: &str) -> Result<()> {
        self.run(self.client.publish(subject.to_owned(), "{}".into()))?;
        self.run(self.client.flush())?;
        let told = format!("Publish to \"{subject}\"").to_lowercase();
        wait::until(&format!("{subject} to be refused"), PATIENCE, || {
            let is = |event: &String| event.to_lowercase().contains(&told);
            Ok(self.events().iter().any(is).then_some(()))
        })
    }

    /// What is under a key of a bucket.
    pub fn value(&self, bucket: &str, key: &str) -> Option<Value> {
        let subject = format!("$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}");
        serde_json::from_slice(&self.ask_within(LONG, &subject, "")?).ok()
    }

    /// Everything that a stream keeps, in order.
    pub fn kept(&self, stream: &str) -> Result<Vec<Vec<u8>>> {
        let info = self.ask_within(LONG, &format!("$JS.API.STREAM.INFO.{stream}"), "");
        let info = info.with_context(|| format!("no stream {stream}"))?;
        let state = serde_json::from_slice::<Value>(&info)?["state"].take();
        let number = |key: &str| state[key].as_u64().unwrap_or_default();
        let get = |seq| {
            let ask = format!("{{\"seq\":{seq}}}");
            self.ask_within(LONG, &format!("$JS.API.DIRECT.GET.{stream}"), &ask)
        };
        Ok((number("first_seq")..=number("last_seq")).filter_map(get).collect())
    }

    /// The bodies of the messages that a stream keeps.
    pub fn bodies(&self, stream: &str) -> Result<Vec<Value>> {
        let read = |message: Vec<u8>| Ok(serde_json::from_slice::<Value>(&message)?["body"].take());
        self.kept(stream)?.into_iter().map(read).collect()
    }

    /// Sends a host a command, and waits for what it answers.
    pub fn command(&self, host: &str, id: &str, request: &Value) -> Result<Value> {
        let said = serde_json::json!({ "v": 1, "fleet": FLEET, "from": "desk", "body": {
            "id": id, "who": "alice", "request": request
        }});
        let subject = format!("detector.command.{host}.desk");
        let asked = self.client.request(subject, said.to_string().into());
        let answer = self.run(async { tokio::time::timeout(PATIENCE, asked).await })??;
        Ok(serde_json::from_slice::<Value>(&answer.payload)?["body"].take())
    }
}

/// A name that is one.
pub fn name(text: &str) -> Result<Name> {
    Ok(text.parse()?)
}
