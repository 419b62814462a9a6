//! A fleet: what its hosts have put into NATS JetStream, and commands by request and reply.

mod past;

use std::{io, path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectOptions,
    jetstream::{
        self,
        consumer::{DeliverPolicy, push::OrderedConfig},
    },
};
use detector_core::{
    api::{ApiError, Reply},
    fleet::{
        Name,
        message::{Announcement, Answer, Command, FindingNews, HostState, open, seal},
        page::{OpenPage, Page},
        roll_out::RollOut,
        subject::{self, Holder, Paged},
    },
};
use futures::{StreamExt, future::BoxFuture};
use serde::de::DeserializeOwned;
use serde_json::value::to_raw_value;
use tokio::{
    sync::{OnceCell, mpsc},
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{AskError, Question, Source};
use crate::estate::{News, Told};

/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// After what has failed.
const PAUSE: Duration = Duration::from_secs(2);
/// Where nothing comes for so long, it is looked whether anything could.
const QUIET: Duration = Duration::from_secs(40);

/// Where the fleet is, and as whom it is spoken to.
#[derive(Clone, Debug)]
pub struct Access {
    pub servers: Vec<String>,
    pub fleet: Name,
    /// The monitor's own name, by which it was enrolled.
    pub monitor: Name,
    pub credentials: PathBuf,
    pub authority: Option<PathBuf>,
}

/// A fleet over NATS.
pub struct Fleet {
    access: Access,
    client: OnceCell<Client>,
}

/// What is kept in one place, and what a message there says.
struct Place {
    stream: String,
    filter: String,
    deliver: DeliverPolicy,
    read: fn(&Fleet, &str, &[u8]) -> Option<Told>,
}

impl Fleet {
    pub fn new(access: Access) -> Self {
        Self { access, client: OnceCell::new() }
    }

    /// The connection, which lasts as long as the monitor: it is made again by itself.
    async fn client(&self) -> io::Result<&Client> {
        self.client
            .get_or_try_init(|| async {
                let credentials = tokio::fs::read_to_string(&self.access.credentials).await?;
                let holder = Holder::Monitor(self.access.monitor.clone());
                let mut options = ConnectOptions::with_credentials(&credentials)?
                    .require_tls(true)
                    .custom_inbox_prefix(holder.inbox())
                    .name(holder.title())
                    .retry_on_initial_connect();
                if let Some(path) = &self.access.authority {
                    options = options.add_root_certificates(path.clone());
                }
                options.connect(&self.access.servers[..]).await.map_err(io::Error::other)
            })
            .await
    }

    fn places() -> [Place; 5] {
        let bucket = |bucket: &str, key: &str, read| Place {
            stream: subject::stream_of(bucket),
            filter: subject::key(bucket, key),
            deliver: DeliverPolicy::LastPerSubject,
            read,
        };
        [
            bucket(subject::VMS, ">", Self::page),
            bucket(subject::HOSTS, ">", Self::state),
            bucket(subject::POLICY, subject::ANNOUNCED, Self::announced),
            bucket(subject::POLICY, subject::ROLL_OUT, Self::roll_out),
            Place {
                stream: subject::FINDINGS.to_owned(),
                filter: "detector.finding.*".to_owned(),
                deliver: DeliverPolicy::All,
                read: Self::finding,
            },
        ]
    }

    /// Reads what one host has said, where it may say it. What is not of it is passed over.
    fn read<T: DeserializeOwned>(&self, host: &str, payload: &[u8]) -> Option<(String, T)> {
        let host: Name = host.parse().ok()?;
        match open(payload, &self.access.fleet, Some(&host)) {
            Ok((_, body)) => Some((host.to_string(), body)),
            Err(why) => {
                tracing::warn!(%host, %why, "fleet: a message is not read");
                None
            }
        }
    }

    fn state(&self, subject: &str, payload: &[u8]) -> Option<Told> {
        let (host, state) = self.read::<HostState>(subject.rsplit('.').next()?, payload)?;
        Some(Told::State { host, state })
    }

    fn page(&self, subject: &str, payload: &[u8]) -> Option<Told> {
        match subject::paged(subject)? {
            (host, Paged::Vms(number)) => {
                let (host, page) = self.read::<Page>(host, payload)?;
                (page.number == number).then_some(Told::Page {
                    host,
                    number,
                    of: page.of,
                    vms: page.vms,
                })
            }
            (host, Paged::Open(number)) => {
                let (host, page) = self.read::<OpenPage>(host, payload)?;
                let OpenPage { number: said, of, findings } = page;
                (said == number).then_some(Told::Open { host, number, of, findings })
            }
        }
    }

    fn finding(&self, subject: &str, payload: &[u8]) -> Option<Told> {
        let (host, news) = self.read::<FindingNews>(subject.rsplit('.').next()?, payload)?;
        Some(Told::Finding { host, news })
    }

    fn announced(&self, _: &str, payload: &[u8]) -> Option<Told> {
        let (_, said) = open::<Announcement>(payload, &self.access.fleet, None).ok()?;
        Some(Told::Offered(said.version.number))
    }

    fn roll_out(&self, _: &str, payload: &[u8]) -> Option<Told> {
        let (_, said) = open::<RollOut>(payload, &self.access.fleet, None).ok()?;
        Some(Told::RollOut(Box::new(said)))
    }

    /// Tells what one place keeps, and what comes there; ends when that cannot be heard any more.
    async fn hear(&self, place: &Place, told: &mpsc::Sender<Told>) -> Result<(), String> {
        let client = self.client().await.map_err(|error| error.to_string())?;
        let context = jetstream::new(client.clone());
        let stream = context.get_stream(&place.stream).await.map_err(|error| error.to_string())?;
        let config = OrderedConfig {
            deliver_subject: client.new_inbox(),
            filter_subject: place.filter.clone(),
            deliver_policy: place.deliver,
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
        let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
        let _ = told.send(Told::Back).await;
        loop {
            let message = match timeout(QUIET, messages.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(None) => return Err("it has ended".to_owned()),
                Err(_) if client.connection_state() == async_nats::connection::State::Connected => {
                    continue;
                }
                Err(_) => return Err("there is no connection to NATS".to_owned()),
            };
            if let Some(one) = (place.read)(self, &message.subject, &message.payload)
                && told.send(one).await.is_err()
            {
                return Ok(());
            }
        }
    }

    async fn keep_hearing(&self, place: Place, told: mpsc::Sender<Told>) {
        while !told.is_closed() {
            if let Err(why) = self.hear(&place, &told).await {
                tracing::warn!(place = place.stream, why, "fleet: nothing is heard");
                let _ = told.send(Told::Lost(format!("{}: {why}", place.stream))).await;
                sleep(PAUSE).await;
            }
        }
    }

    async fn command(&self, question: Question) -> Result<Reply, AskError> {
        let unreachable = |why: String| AskError::Unreachable(why);
        let bad = |error: serde_json::Error| AskError::Unintelligible(error.to_string());
        let host: Name =
            question.host.parse().map_err(|_| AskError::NoHost(question.host.clone()))?;
        let request = to_raw_value(&question.request).map_err(bad)?;
        let command = Command { id: question.id, who: question.who, request };
        let said = seal(&self.access.fleet, &self.access.monitor, &command)
            .map_err(|why| unreachable(why.to_string()))?;
        let client = self.client().await.map_err(|error| unreachable(error.to_string()))?;
        let asked = client.request(subject::command(&host, &self.access.monitor), said.into());
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.map_err(|_| unreachable(format!("{host} does not answer in time")))?;
        let answer =
            answer.map_err(|error| unreachable(format!("{host} does not answer: {error}")))?;
        let (_, answer) = open::<Answer>(&answer.payload, &self.access.fleet, Some(&host))
            .map_err(|why| unreachable(format!("the answer of {host} is not read: {why}")))?;
        match answer {
            Answer { id, .. } if id != question.id => {
                Err(unreachable(format!("{host} has answered something else")))
            }
            Answer { error: Some(error), .. } => {
                Err(AskError::Refused(serde_json::from_str::<ApiError>(error.get()).map_err(bad)?))
            }
            Answer { ok: Some(reply), .. } => serde_json::from_str(reply.get()).map_err(bad),
            Answer { .. } => Err(unreachable(format!("the answer of {host} is none"))),
        }
    }
}

impl Source for Fleet {
    fn follow(&self, told: mpsc::Sender<Told>) -> BoxFuture<'_, ()> {
        let all = Self::places().map(|place| self.keep_hearing(place, told.clone()));
        Box::pin(async move { drop(futures::future::join_all(all).await) })
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Reply, AskError>> {
        Box::pin(self.command(question))
    }

    fn past<'a>(&'a self, host: &'a str, vm: Uuid) -> BoxFuture<'a, Vec<News>> {
        Box::pin(async move {
            let Ok(host) = host.parse::<Name>() else { return Vec::new() };
            self.past_of(&host, vm).await.unwrap_or_else(|why| {
                tracing::warn!(%host, why, "fleet: the audit is not read");
                Vec::new()
            })
        })
    }

    fn fleet(&self) -> Option<&str> {
        Some(self.access.fleet.as_str())
    }
}
