//! The socket's server: who may speak, how much and how long, one task a connection.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::{
    line::{self, LONGEST_ADMIT, LONGEST_POLICY},
    peer::{Access, Peer},
    role::Role,
    schema::{ApiError, ErrorCode, Reply, ReplyLine, Request},
};
use crate::audit::Who;

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
    /// In whose name it is asked, where that is not the peer's.
    pub on_behalf: Option<Who>,
    pub request: Request,
    pub replies: mpsc::Sender<Result<Reply, ApiError>>,
}

/// Somebody was refused.
#[derive(Debug)]
pub struct Denial {
    pub peer: Peer,
    /// What they asked; `None` of who may ask nothing, and is not listened to.
    pub request: Option<Request>,
    /// It is for people to say, and whoever asked is the user that provisioners run as.
    for_people: bool,
}

impl Denial {
    fn new(peer: Peer, request: Option<Request>) -> Self {
        Self { peer, request, for_people: false }
    }

    /// The least role that would have done.
    pub fn needed(&self) -> Role {
        self.request.as_ref().map_or(Role::View, Role::needed_for)
    }

    /// What whoever asked is told: what they lack, and how to get it.
    pub fn error(&self) -> ApiError {
        let (uid, needed) = (self.peer.uid, self.needed().as_str());
        if self.for_people {
            let message = format!(
                "user {uid} is the one that the daemon and its provisioners run as, and neither approves nor rejects a \
                 VM: ask as root, or as a person who is listed in `roles.{needed}` of the configuration"
            );
            return ApiError::new(ErrorCode::Forbidden, message);
        }
        let group = match self.needed() {
            Role::View | Role::Operate => ", or are a member of the group in `api.group`",
            Role::Administer => "",
        };
        ApiError::new(
            ErrorCode::Forbidden,
            format!(
                "user {uid} lacks the role {needed:?}, which this takes: ask as root, or have an administrator list \
                 you or a group of yours in `roles.{needed}` of the configuration{group}, restart the daemon, and \
                 log in anew where the group is a new one"
            ),
        )
    }
}

/// Serves until the listener fails; every request goes to `calls`, and who is refused to `denials`.
pub async fn serve(
    listener: UnixListener,
    access: watch::Receiver<Arc<Access>>,
    calls: mpsc::Sender<Call>,
    denials: mpsc::Sender<Denial>,
) {
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
        let (access, operators) = (Arc::clone(&access.borrow()), Arc::clone(&operators));
        let ways = (calls.clone(), denials.clone());
        tokio::spawn(async move { greet(stream, &access, ways, (place, operators)).await });
    }
}

async fn greet(
    stream: UnixStream,
    access: &Access,
    (calls, denials): (mpsc::Sender<Call>, mpsc::Sender<Denial>),
    (_place, operators): (OwnedSemaphorePermit, Arc<Semaphore>),
) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            let message = format!("the kernel does not say who you are: {error}");
            return refuse(stream, ApiError::new(ErrorCode::Forbidden, message)).await;
        }
    };
    let Some(role) = access.role(&peer) else {
        let denial = Denial::new(peer, None);
        let error = denial.error();
        let _ = denials.try_send(denial);
        return refuse(stream, error).await;
    };
    // Nobody keeps the hook out.
    let place = operators.try_acquire();
    if place.is_err() && !access.is_host(&peer) {
        return refuse(stream, busy()).await;
    }
    converse(stream, &peer, (role, access), &calls, &denials).await;
}

type Lines = Framed<UnixStream, LinesCodec>;

async fn converse(
    stream: UnixStream,
    peer: &Peer,
    (role, access): (Role, &Access),
    calls: &mpsc::Sender<Call>,
    denials: &mpsc::Sender<Denial>,
) {
    let limit = if role == Role::Administer { LONGEST_ADMIT } else { LONGEST_POLICY };
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
        let outcome = request.and_then(|(request, on_behalf)| {
            let peer = Peer { on_behalf, ..peer.clone() };
            let for_people = access.may_be_a_provisioner(&peer) && Role::is_for_people(&request);
            if role >= Role::needed_for(&request) && !for_people {
                return Ok((peer, request));
            }
            let denial = Denial { for_people, ..Denial::new(peer, Some(request)) };
            let error = denial.error();
            // Where nobody takes it, it is refused all the same.
            let _ = denials.try_send(denial);
            Err(error)
        });
        let open = match outcome {
            Ok((peer, request)) => relay(&mut lines, peer, request, calls).await,
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
    peer: Peer,
    request: Request,
    calls: &mpsc::Sender<Call>,
) -> Option<()> {
    // A watch lasts long, and who has let go of a VM's files need not have waited until that is recorded.
    let attended = match &request {
        Request::QuarantineWatch {} => true,
        Request::Admit { op, .. } => op == "release",
        _ => false,
    };
    let (replies, mut inbox) = mpsc::channel(BACKLOG);
    let call = Call { peer, on_behalf: None, request, replies };
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
                line = lines.next(), if attended => match line {
                    None | Some(Err(_)) => return None,
                    Some(Ok(_)) => {
                        let message = "this request is not answered yet: open another connection for a further one";
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
