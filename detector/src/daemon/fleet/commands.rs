//! Commands: the same requests as over the socket, with the role that the fleet has here.

use std::{
    num::NonZero,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use detector_core::fleet::{
    Name,
    message::{Answer, Command},
};
use lru::LruCache;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::{
    sync::{OnceCell, Semaphore},
    task::spawn_blocking,
};
use uuid::Uuid;

use super::{
    super::{actions::is_recorded, itself::Itself},
    Paced,
};
use crate::{
    api::{ApiError, ErrorCode, Reply, Request, Role},
    audit::{self, Entry, Kind, Place, Who, Writer},
    config::Config,
    fleet::speech::{Speech, Unsaid},
};

/// Commands at a time.
const AT_ONCE: usize = 16;
/// Actions that are remembered, so that one that is sent again is not done again.
const REMEMBERED: NonZero<usize> = NonZero::new(1024).unwrap();
/// Characters of a person's name.
const LONGEST_NAME: usize = 128;
type Outcome = Result<Reply, ApiError>;
type Done = LruCache<(Name, Uuid), Arc<OnceCell<Outcome>>>;

/// Answers commands.
#[derive(Clone)]
pub(super) struct Commands(Arc<Shared>);

struct Shared {
    role: Role,
    /// People who have to approve what becomes of a VM.
    approvals: u8,
    /// The audit, which has what was asked before the daemon's start.
    records: PathBuf,
    itself: Itself,
    audit: Writer,
    speech: Speech,
    room: Arc<Semaphore>,
    /// That actions of before the daemon's start are in `done`.
    recalled: OnceCell<()>,
    done: Mutex<Done>,
    denied: Mutex<Paced>,
}

impl Commands {
    pub(super) fn new(config: &Config, itself: &Itself, audit: &Writer, speech: &Speech) -> Self {
        Self(Arc::new(Shared {
            role: config.fleet.role,
            approvals: config.remediation.approvals,
            records: Place::new(&config.paths.state).database,
            recalled: OnceCell::new(),
            itself: itself.clone(),
            audit: audit.clone(),
            speech: speech.clone(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            done: Mutex::new(LruCache::new(REMEMBERED)),
            denied: Mutex::default(),
        }))
    }

    /// Sees to a command; what comes of it is answered when it is known.
    pub(super) async fn take(&self, ticket: u64, from: Name, command: Command) {
        let id = command.id;
        let Ok(place) = Arc::clone(&self.0.room).try_acquire_owned() else {
            let message = "too many commands at a time: try again";
            let busy = Err(ApiError::new(ErrorCode::Busy, message));
            // Whoever has asked tries again anyway.
            let _ = self.0.speech.answer(ticket, &answer(id, &busy)).await;
            return;
        };
        let own = Arc::clone(&self.0);
        tokio::spawn(async move {
            let outcome = own.carry_out(&from, &command).await;
            let said = own.speech.answer(ticket, &answer(id, &outcome)).await;
            if let Err(Unsaid::Never(why)) = said {
                let message = format!("the answer is not sent ({why}): ask on the host");
                let outcome = Err(ApiError::new(ErrorCode::TooLong, message));
                let _ = own.speech.answer(ticket, &answer(id, &outcome)).await;
            }
            drop(place);
        });
    }
}

impl Shared {
    async fn carry_out(&self, from: &Name, command: &Command) -> Outcome {
        let user = command.who.chars().take(LONGEST_NAME).collect();
        let who = Who::Fleet { monitor: from.to_string(), user, command: command.id };
        let request = parse(command.request.get())?;
        let needed = Role::needed_for(&request);
        if self.approvals > 1 && approves(&request) {
            let why = "of so many people who have to approve, the fleet is one";
            self.record_denial(who, &request, why);
            let message = format!(
                "on this host {} people have to approve, and it cannot tell those of the fleet apart: approve on the host",
                self.approvals
            );
            return Err(ApiError::new(ErrorCode::Forbidden, message));
        }
        if self.role < needed {
            self.record_denial(who, &request, &format!("it takes the role {}", needed.as_str()));
            let (held, needed) = (self.role.as_str(), needed.as_str());
            let message = format!(
                "this host gives its fleet the role {held:?}, and this takes {needed:?}: whoever administers the host \
                 sets `fleet.role` in its configuration"
            );
            return Err(ApiError::new(ErrorCode::Forbidden, message));
        }
        let ask = async {
            let answered = self.itself.ask_for(Some(who), request.clone()).await;
            answered.unwrap_or_else(|| {
                Err(ApiError::new(ErrorCode::Unavailable, "the daemon is stopping"))
            })
        };
        // To look twice does no harm.
        if !is_recorded(&request) {
            return ask.await;
        }
        self.recalled.get_or_init(|| self.recall()).await;
        let name = (from.clone(), command.id);
        let cell = Arc::clone(lock(&self.done).get_or_insert(name, Arc::default));
        cell.get_or_init(|| ask).await.clone()
    }

    /// Remembers what was asked before the daemon's start.
    async fn recall(&self) {
        let path = self.records.clone();
        let found = spawn_blocking(move || {
            let records = audit::reader(&path).ok()?;
            audit::fleet_commands(&records, REMEMBERED.get()).ok()
        });
        let Ok(Some(found)) = found.await else {
            tracing::warn!("fleet: what was asked before the daemon's start is not known");
            return;
        };
        let mut done = lock(&self.done);
        for (monitor, id) in found {
            let Ok(monitor) = monitor.parse() else { continue };
            let message = "it was begun before the daemon's last start, and is not begun again: what came of it is in the audit";
            let outcome = Err(ApiError::new(ErrorCode::BadRequest, message));
            done.put((monitor, id), Arc::new(OnceCell::new_with(Some(outcome))));
        }
    }

    fn record_denial(&self, who: Who, request: &Request, why: &str) {
        let Some(before) = lock(&self.denied).due() else { return };
        let entry = Entry::new(Kind::Denied, who)
            .why(why)
            .because("request", serde_json::to_string(request).ok())
            .because("not-recorded-before", (before > 0).then(|| before.to_string()));
        self.audit.decision(jiff::Timestamp::now(), entry);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is asked, where that can be asked from elsewhere.
fn parse(text: &str) -> Result<Request, ApiError> {
    let bad = |message: String| ApiError::new(ErrorCode::BadRequest, message);
    match serde_json::from_str(text).map_err(|error| bad(error.to_string()))? {
        // libvirt's word, and what has no end.
        Request::Admit { .. } | Request::QuarantineWatch {} => {
            Err(bad("this is asked on the host itself only".to_owned()))
        }
        request => Ok(request),
    }
}

/// Whether it counts as a person's approval.
fn approves(request: &Request) -> bool {
    match request {
        Request::RemediateApprove { .. } => true,
        Request::RemediateStart { digests, .. } => !digests.is_empty(),
        _ => false,
    }
}

fn answer(id: Uuid, outcome: &Outcome) -> Answer {
    fn raw(value: &impl Serialize) -> Option<Box<RawValue>> {
        to_raw_value(value).ok()
    }
    match outcome {
        Ok(reply) => Answer { id, ok: raw(reply), error: None },
        Err(error) => Answer { id, ok: None, error: raw(error) },
    }
}
