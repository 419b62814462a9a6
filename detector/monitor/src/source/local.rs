//! One host: its daemon's control socket.

use std::{io, path::PathBuf, time::Duration};

use detector_core::{
    api::{
        Reply, Request, VERSION,
        schema::{Outcome, ReplyLine, RequestLine},
    },
    fleet::{
        message::PolicyState,
        report::{self, Life},
    },
};
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{AskError, Question, Source};
use crate::estate::Told;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer in bytes.
const LONGEST: u64 = 64 << 20;
/// Connections at a time: the daemon has room for others beside us.
const AT_ONCE: usize = 8;

/// The daemon of one host.
#[derive(Debug)]
pub struct Local {
    socket: PathBuf,
    host: String,
    room: Semaphore,
}

impl Local {
    /// The daemon that answers on this socket.
    pub fn new(socket: PathBuf) -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim().chars().take(253);
        let host: String =
            name.filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        Self { socket, host, room: Semaphore::new(AT_ONCE) }
    }

    async fn call(&self, who: Option<String>, request: Request) -> Result<Reply, AskError> {
        let _place = self.room.acquire().await;
        let called = timeout(PATIENCE, self.converse(who, request)).await;
        called.map_err(|_| self.unreachable("it does not answer in time"))?
    }

    async fn converse(&self, who: Option<String>, request: Request) -> Result<Reply, AskError> {
        let line = RequestLine { v: VERSION, on_behalf: who, request };
        let mut line = serde_json::to_vec(&line).map_err(|error| unreadable(&error))?;
        line.push(b'\n');
        let broken = |error: io::Error| self.unreachable(&error.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(broken)?;
        let mut stream = BufReader::new(stream);
        // A daemon that refuses the connection answers before it has read the request.
        let sent = stream.get_mut().write_all(&line).await;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_until(b'\n', &mut answer).await.map_err(broken)?;
        if answer.is_empty() {
            sent.map_err(broken)?;
            return Err(self.unreachable("it has closed the connection"));
        }
        let answer: ReplyLine =
            serde_json::from_slice(&answer).map_err(|error| unreadable(&error))?;
        match answer.outcome {
            Outcome::Ok(reply) => Ok(reply),
            Outcome::Error(error) => Err(AskError::Refused(error)),
        }
    }

    fn unreachable(&self, why: &str) -> AskError {
        AskError::Unreachable(format!(
            "the daemon does not answer on {}: {why}",
            self.socket.display()
        ))
    }

    /// Everything that it knows.
    async fn look(&self) -> Result<Told, AskError> {
        let status = self.call(None, Request::Status {}).await?;
        let vms = self.call(None, Request::VmList {}).await?;
        let (Reply::Status(status), Reply::Vms(vms)) = (status, vms) else {
            return Err(AskError::Unintelligible("it answers something else".to_owned()));
        };
        let started = status.started.to_string();
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, started.as_bytes());
        let life = Life { id, every: 10 };
        let now = jiff::Timestamp::now();
        let state = report::host(now, life, &status, PolicyState::default(), 1);
        let vms = vms.iter().map(report::vm).collect();
        let findings = status.findings.into_iter().map(report::finding).collect();
        Ok(Told::Whole { host: self.host.clone(), state, vms, findings })
    }

    async fn keep_looking(&self, told: mpsc::Sender<Told>) {
        loop {
            let outcome = match self.look().await {
                Ok(whole) => {
                    if told.send(Told::Back).await.is_err() {
                        return;
                    }
                    whole
                }
                Err(error) => {
                    let (host, why) = (self.host.clone(), error.to_string());
                    if told.send(Told::Silent { host, why: why.clone() }).await.is_err() {
                        return;
                    }
                    Told::Lost(why)
                }
            };
            if told.send(outcome).await.is_err() {
                return;
            }
            sleep(INTERVAL).await;
        }
    }
}

impl Source for Local {
    fn follow(&self, told: mpsc::Sender<Told>) -> BoxFuture<'_, ()> {
        Box::pin(self.keep_looking(told))
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Reply, AskError>> {
        Box::pin(async move {
            if question.host != self.host {
                return Err(AskError::NoHost(question.host));
            }
            self.call(Some(question.who), question.request).await
        })
    }

    fn fleet(&self) -> Option<&str> {
        None
    }
}

fn unreadable(error: &serde_json::Error) -> AskError {
    AskError::Unintelligible(error.to_string())
}
