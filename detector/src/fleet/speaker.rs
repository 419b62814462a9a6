//! The process that speaks to the fleet: it connects, carries messages and credentials, and has no other right.
//!
//! What a network sends is parsed here and nowhere else: TLS, the protocol of NATS, envelopes. Whoever takes this process
//! over speaks for this host, and asks of the daemon what the fleet's role allows; a bundle is judged elsewhere.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    process::ExitCode,
    rc::Rc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use async_nats::{
    Client, Event, Message, StatusCode,
    jetstream::{self, message::PublishMessage},
};
use bytes::Bytes;
use clap::Parser;
use detector_core::fleet::{
    Name, bundle,
    message::{self, Announcement, Command},
    subject::{self, Holder},
};
use futures::StreamExt;
use tokio::{
    runtime::Builder,
    sync::{Semaphore, mpsc},
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    connection::Access,
    words::{News, Place, Want},
};
use crate::{
    config::{Config, text::read_text},
    escape::escape,
    logging, part, sandbox,
};

/// What `ps` shows.
const NAME: &str = "speak-to-fleet";
const LONGEST_CREDENTIALS: u64 = 64 << 10;
/// Where names are looked up, and who signs certificates.
const READABLE: [&str; 6] =
    ["/etc", "/usr", "/lib", "/lib64", "/run/systemd/resolve", "/run/resolvconf"];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Commands that wait for an answer; the oldest is forgotten for another, and its sender hears nothing.
const MOST_COMMANDS: usize = 32;
/// What is said at a time.
const AT_ONCE: usize = 64;
/// How often what is announced is asked for, should the word of it have been missed.
const LOOK: Duration = Duration::from_secs(300);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The process of the daemon that speaks to the fleet; on its own it does nothing.
#[derive(Debug, Parser)]
#[command(name = "detector-fleet", version)]
struct Line {
    #[command(flatten)]
    given: part::Given,
}

/// Runs `detector-fleet`.
pub fn main() -> ExitCode {
    part::show_as(NAME.into());
    match carry_out(Line::parse().given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("detector-fleet: {}", escape(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(given: part::Given) -> Result<()> {
    logging::begin(given.log);
    if !given.once {
        return part::keep(&[]);
    }
    let config = given.places().load()?;
    let (fleet, host) = config.fleet.names().context("this host is of no fleet")?;
    let names = (fleet.clone(), host.clone());
    part::begin()?;
    // Whoever it becomes may not read them.
    let path = &config.fleet.credentials;
    let credentials = read_text(path, LONGEST_CREDENTIALS)
        .with_context(|| format!("no credentials in {}", path.display()))?;
    let own = config.fleet.authority.as_deref();
    let readable: Vec<_> = READABLE.iter().map(Path::new).chain(own).collect();
    part::settle(&config, &[], || sandbox::only_connect(&readable))?;
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, speak(&config, names, &credentials))
}

/// What everything that is done here needs.
struct Speaker {
    fleet: Name,
    host: Name,
    client: Client,
    context: jetstream::Context,
}

async fn speak(config: &Config, (fleet, host): (Name, Name), credentials: &str) -> Result<()> {
    let holder = Holder::Host(host.clone());
    let (inbox, title) = (holder.inbox(), holder.title());
    let access = Access {
        urls: &config.fleet.servers,
        credentials,
        authority: config.fleet.authority.as_deref(),
        inbox: &inbox,
        name: &title,
    };
    let (tell, mut events) = mpsc::unbounded_channel();
    let options = access.options().context("the credentials are none")?;
    let options = options
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            // It ends with the process.
            let _ = tell.send(event);
            async {}
        });
    let client = options.connect(access.urls).await.context("cannot begin to connect")?;
    let mut commands = client.subscribe(subject::commands(&host)).await?;
    let mut news = client.subscribe(subject::NEWS).await?;
    let mut context = jetstream::new(client.clone());
    context.set_timeout(PATIENCE);
    let speaker = Rc::new(Speaker { fleet, host, client, context });
    let mut wants = listen()?;
    let room = Rc::new(Semaphore::new(AT_ONCE));
    let mut asked = Asked::begin();
    let mut trouble = String::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.tick().await;
    loop {
        tokio::select! {
            Some(event) = events.recv() => match event {
                Event::Connected => {
                    trouble.clear();
                    say(News::Linked);
                    spawn_local(Rc::clone(&speaker).look());
                }
                Event::Disconnected | Event::Closed => {
                    let why = if trouble.is_empty() { "the connection has ended" } else { &trouble };
                    say(News::Lost(why.to_owned()));
                }
                Event::ServerError(error) => {
                    trouble = error.to_string();
                    tracing::warn!(error = trouble, "fleet: the server complains");
                }
                Event::ClientError(error) => trouble = error.to_string(),
                _ => {}
            },
            Some(message) = commands.next() => speaker.command(message, &mut asked),
            Some(message) = news.next() => speaker.announced(&message.payload),
            _ = looks.tick() => drop(spawn_local(Rc::clone(&speaker).look())),
            want = wants.recv() => match want {
                // The daemon has gone.
                None => return Ok(()),
                Some(Want::Put { ticket, place, message, id }) => {
                    let (speaker, room) = (Rc::clone(&speaker), Rc::clone(&room));
                    spawn_local(async move {
                        let _place = room.acquire().await;
                        let result = speaker.put(place, message, id).await;
                        say(News::Done { ticket, result });
                    });
                }
                Some(Want::Answer { ticket, message }) => {
                    if let Some(to) = asked.take(ticket) {
                        // Whoever has asked is gone, or asks again.
                        let _ = speaker.client.publish(to, message.into()).await;
                    }
                }
                Some(Want::Fetch { version }) => {
                    let speaker = Rc::clone(&speaker);
                    spawn_local(async move {
                        let file = speaker.fetch(version).await;
                        say(News::Bundle { version, file });
                    });
                }
            },
        }
    }
}

/// Commands that wait for an answer, and where that goes.
struct Asked {
    /// Numbers of another life of this process are never given out again: an answer to what came then goes nowhere.
    next: u64,
    waiting: BTreeMap<u64, async_nats::Subject>,
    order: VecDeque<u64>,
}

impl Asked {
    fn begin() -> Self {
        let now = jiff::Timestamp::now().as_microsecond();
        Self {
            next: u64::try_from(now).unwrap_or(0),
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    fn add(&mut self, reply: async_nats::Subject) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, reply);
        self.order.push_back(self.next);
        if self.order.len() > MOST_COMMANDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
        self.next
    }

    fn take(&mut self, ticket: u64) -> Option<async_nats::Subject> {
        self.order.retain(|one| *one != ticket);
        self.waiting.remove(&ticket)
    }
}

impl Speaker {
    fn command(&self, message: Message, asked: &mut Asked) {
        let Some(reply) = message.reply else {
            return say(News::Unread("a command that wants no answer".to_owned()));
        };
        let Some(monitor) = subject::asker(&message.subject, &reply) else {
            let what = "a command whose answer would not go to the monitor that asks";
            return say(News::Unread(what.to_owned()));
        };
        match message::open::<Command>(&message.payload, &self.fleet, Some(&monitor)) {
            Ok((from, command)) => {
                let ticket = asked.add(reply);
                say(News::Command { ticket, from, command });
            }
            // Whoever speaks another version understands no answer of this one either.
            Err(refused) => say(News::Unread(format!("a command: {refused}"))),
        }
    }

    fn announced(&self, payload: &[u8]) {
        match message::open::<Announcement>(payload, &self.fleet, None) {
            Ok((_, announcement)) => say(News::Announced(announcement)),
            Err(refused) => say(News::Unread(format!("an announcement: {refused}"))),
        }
    }

    /// Asks for what is announced.
    async fn look(self: Rc<Self>) {
        match self.ask(subject::ANNOUNCED).await {
            Ok(Some(payload)) => self.announced(&payload),
            Ok(None) => {}
            Err(why) => tracing::info!(why, "fleet: what is announced is not known"),
        }
    }

    async fn fetch(&self, version: u64) -> Result<String, String> {
        let payload = self.ask(&subject::bundle(version)).await?;
        let payload = payload.ok_or("it is not there")?;
        if payload.len() > bundle::LONGEST {
            return Err(format!(
                "it has {} bytes; expected at most {}",
                payload.len(),
                bundle::LONGEST
            ));
        }
        String::from_utf8(payload.to_vec()).map_err(|_| "it is no text".to_owned())
    }

    async fn ask(&self, key: &str) -> Result<Option<Bytes>, String> {
        let asked = self.client.request(subject::ask(key), Bytes::new());
        let answer = timeout(PATIENCE, asked).await.map_err(|_| "no answer in time".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status {
            Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(status) if status != StatusCode::OK => Err(format!("refused with {status}")),
            _ => Ok(Some(answer.payload)),
        }
    }

    async fn put(
        &self,
        place: Place,
        message: String,
        id: Option<uuid::Uuid>,
    ) -> Result<(), String> {
        let host = &self.host;
        let subject = match place {
            Place::Host => subject::key(subject::HOSTS, host.as_str()),
            Place::Vms(page) => subject::key(subject::VMS, &subject::vm_page(host, page)),
            Place::Open(page) => subject::key(subject::VMS, &subject::open_page(host, page)),
            Place::Finding => subject::finding(host),
            Place::Audit => subject::audit(host),
        };
        let mut said = PublishMessage::build().payload(message.into());
        if let Some(id) = id {
            said = said.message_id(id.to_string());
        }
        let kept = async {
            let sent = self.context.send_publish(subject, said).await.map_err(|e| e.to_string())?;
            sent.await.map_err(|error| error.to_string())
        };
        let kept = timeout(PATIENCE, kept).await.map_err(|_| "no answer in time".to_owned())?;
        kept.map(drop)
    }
}

/// Where nobody listens any more, this process ends soon.
fn say(news: News) {
    part::say(&part::Said::Told(news));
}

/// What the daemon wants, which comes by a thread of its own.
fn listen() -> io::Result<mpsc::Receiver<Want>> {
    let (tell, wants) = mpsc::channel(AT_ONCE);
    thread::Builder::new().name("wants".to_owned()).spawn(move || {
        let mut lines = io::stdin().lock();
        while let Some(want) = part::hear::<Want>(&mut lines) {
            if tell.blocking_send(want).is_err() {
                return;
            }
        }
    })?;
    Ok(wants)
}

/// How long to wait before the next try: hosts that have lost the same server come back one by one.
fn pause(tries: usize) -> Duration {
    let doubled = u32::try_from(tries.min(7)).unwrap_or(7);
    let longest = (FIRST_RETRY * 2u32.pow(doubled)).min(LAST_RETRY);
    let dice = f64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs() % 1000) / 1000.0;
    longest.mul_f64(0.5 + dice / 2.0)
}
