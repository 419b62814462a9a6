//! The socket's server: who may speak, how much and how long, one task a connection.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::{
    line::{self, LONGEST_ADMIT, LONGEST_POLICY},
    peer::{Access, Peer, Right},
    schema::{ApiError, ErrorCode, Reply, ReplyLine, Request},
};

/// Connections at a time; the last few are for root, so that operators cannot keep the hook out.
const CONNECTIONS: usize = 64;
const FOR_ROOT: usize = 16;
/// A connection without a request for this long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// A client that does not take a reply for this long is dropped.
const STUCK: Duration = Duration::from_secs(10);
/// Replies that wait for one client; a watcher that is further behind is dropped.
const BACKLOG: usize = 256;

/// A request, and where its replies go. Dropping `replies` ends the request.
#[derive(Debug)]
pub struct Call {
    pub peer: Peer,
    pub request: Request,
    pub replies: mpsc::Sender<Result<Reply, ApiError>>,
}

/// Serves until the listener fails; every request goes to `calls`.
pub async fn serve(listener: UnixListener, access: Access, calls: mpsc::Sender<Call>) {
    let all = Arc::new(Semaphore::new(CONNECTIONS));
    let operators = Arc::new(Semaphore::new(CONNECTIONS - FOR_ROOT));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors or memory: what is connected goes on, others wait a moment.
                tracing::warn!(%error, "api: cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&all).try_acquire_owned() else {
            tokio::spawn(refuse(stream, busy()));
            continue;
        };
        let (access, calls, operators) = (access.clone(), calls.clone(), Arc::clone(&operators));
        tokio::spawn(async move { greet(stream, &access, calls, (place, operators)).await });
    }
}

async fn greet(
    stream: UnixStream,
    access: &Access,
    calls: mpsc::Sender<Call>,
    (_place, operators): (OwnedSemaphorePermit, Arc<Semaphore>),
) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            let message = format!("the kernel does not say who you are: {error}");
            return refuse(stream, ApiError::new(ErrorCode::Forbidden, message)).await;
        }
    };
    match access.right(&peer) {
        Right::Nothing => {
            let message = format!(
                "uid {} may not use this socket: become root, or a member of the group that \
                 api.group names",
                peer.uid
            );
            refuse(stream, ApiError::new(ErrorCode::Forbidden, message)).await;
        }
        Right::Operate => match operators.try_acquire() {
            Ok(_place) => converse(stream, &peer, Right::Operate, &calls).await,
            Err(_) => refuse(stream, busy()).await,
        },
        Right::Admit => converse(stream, &peer, Right::Admit, &calls).await,
    }
}

type Lines = Framed<UnixStream, LinesCodec>;

async fn converse(stream: UnixStream, peer: &Peer, right: Right, calls: &mpsc::Sender<Call>) {
    let limit = if right == Right::Admit { LONGEST_ADMIT } else { LONGEST_POLICY };
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(limit));
    loop {
        let request = match timeout(IDLE, lines.next()).await {
            Err(_) | Ok(None) => return,
            Ok(Some(Ok(line))) => line::parse(&line),
            Ok(Some(Err(error))) => {
                let error = match error {
                    LinesCodecError::MaxLineLengthExceeded => line::too_long(limit),
                    LinesCodecError::Io(error) => {
                        ApiError::new(ErrorCode::BadRequest, error.to_string())
                    }
                };
                // What follows is the rest of the same line.
                let _ = send(&mut lines, Err(error)).await;
                return;
            }
        };
        let outcome = match request {
            Ok(Request::Admit { .. }) if right < Right::Admit => Err(ApiError::new(
                ErrorCode::Forbidden,
                "only root hands in VMs that are about to start",
            )),
            Ok(Request::ModeChange { .. }) if right < Right::Admit => Err(ApiError::new(
                ErrorCode::Forbidden,
                "only root and the daemon's own user change the mode",
            )),
            Ok(Request::ClockConfirm { .. }) if right < Right::Admit => Err(ApiError::new(
                ErrorCode::Forbidden,
                "only root and the daemon's own user say that the clock is right",
            )),
            other => other,
        };
        let open = match outcome {
            Ok(request) => relay(&mut lines, peer, request, calls).await,
            Err(error) => send(&mut lines, Err(error)).await,
        };
        if open.is_none() {
            return;
        }
    }
}

/// Hands a request on and sends its replies, until there are no more or the client closes.
async fn relay(
    lines: &mut Lines,
    peer: &Peer,
    request: Request,
    calls: &mpsc::Sender<Call>,
) -> Option<()> {
    let watch = matches!(request, Request::QuarantineWatch {});
    let (replies, mut inbox) = mpsc::channel(BACKLOG);
    let call = Call { peer: peer.clone(), request, replies };
    let mut answered = false;
    if calls.send(call).await.is_ok() {
        loop {
            tokio::select! {
                reply = inbox.recv() => match reply {
                    Some(reply) => {
                        answered = true;
                        send(lines, reply).await?;
                    }
                    None => break,
                },
                // Only a watch lasts long enough for the client's going away to matter.
                line = lines.next(), if watch => match line {
                    None | Some(Err(_)) => return None,
                    Some(Ok(_)) => {
                        let message = "a watch takes no further request: open another connection";
                        send(lines, Err(ApiError::new(ErrorCode::BadRequest, message))).await?;
                        return None;
                    }
                },
            }
        }
    }
    if !answered {
        send(lines, Err(ApiError::new(ErrorCode::Unavailable, "the daemon is stopping"))).await?;
    }
    Some(())
}

async fn refuse(stream: UnixStream, error: ApiError) {
    let mut lines = Framed::new(stream, LinesCodec::new());
    let _ = send(&mut lines, Err(error)).await;
}

/// `None` when the client is gone or does not take what it asked for.
async fn send(lines: &mut Lines, reply: Result<Reply, ApiError>) -> Option<()> {
    let line = serde_json::to_string(&ReplyLine::from(reply)).ok()?;
    timeout(STUCK, lines.send(line)).await.ok()?.ok()
}

fn busy() -> ApiError {
    ApiError::new(ErrorCode::Busy, "too many connections: close some, or try again")
}
