//! Answers to operators, and what they say of findings.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use detector_core::model::{FindingKey, FindingKind, Severity, Subject};
use jiff::Timestamp;
use nix::unistd::{Uid, User};
use tokio::{
    task::spawn_local,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    Asked,
    desk::{Desk, Route},
    notice::{Event, Notice},
    sink::Sink,
    state::Deed,
};
use crate::{
    api::{
        ApiError, ErrorCode, Reply, Request,
        view::{AlertEntry, AlertStatus, FindingView, Mark, Marked, SinkView, Suppression, Tried},
    },
    findings,
    suggest::did_you_mean,
};

/// How long a test alert may take.
const TEST: Duration = Duration::from_secs(10);
/// The longest suppression: what is wrong for longer is not wrong.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Characters of a reason.
const REASON: usize = 500;
/// Notices that a list shows of each receiver.
const LISTED: usize = 200;

pub(super) fn answer(desk: &Rc<RefCell<Desk>>, asked: Asked) {
    let Asked { uid, request, answer } = asked;
    let reply = match request {
        Request::FindingAck { id, reason } => {
            acknowledge(&mut desk.borrow_mut(), uid, &id, &reason)
        }
        Request::FindingSuppress { what, reason, seconds } => {
            suppress(&mut desk.borrow_mut(), uid, &what, &reason, Duration::from_secs(seconds))
        }
        Request::FindingUnsuppress { what } => unsuppress(&mut desk.borrow_mut(), &what),
        Request::AlertStatus {} => Ok(Reply::AlertStatus(Box::new(status(&mut desk.borrow_mut())))),
        Request::AlertList {} => Ok(Reply::AlertEntries(list(&mut desk.borrow_mut()))),
        Request::AlertTest { sink } => {
            // The receivers take their time, and nothing else waits for it.
            match chosen(&desk.borrow(), sink.as_deref()) {
                Ok(routes) => {
                    let desk = Rc::clone(desk);
                    spawn_local(async move {
                        let tried = test(&desk, uid, routes).await;
                        let _ = answer.send(Ok(Reply::AlertsTried(tried)));
                    });
                    return;
                }
                Err(error) => Err(error),
            }
        }
        _ => Err(ApiError::new(ErrorCode::BadRequest, "this is not about alerts")),
    };
    // Whoever has asked may have gone.
    let _ = answer.send(reply);
}

fn acknowledge(desk: &mut Desk, uid: u32, id: &str, reason: &str) -> Result<Reply, ApiError> {
    known(desk, id)?;
    let mark = mark(uid, reason, None)?;
    desk.mark(Deed::Acknowledged, id, Some(mark.clone()), Timestamp::now());
    Ok(marked(desk, id, mark))
}

fn suppress(
    desk: &mut Desk,
    uid: u32,
    what: &str,
    reason: &str,
    lasts: Duration,
) -> Result<Reply, ApiError> {
    if kind(what).is_none() {
        known(desk, what).map_err(|error| {
            let kinds = FindingKind::ALL.iter().map(|kind| kind.as_str());
            ApiError { message: format!("{}{}", error.message, did_you_mean(what, kinds)), ..error }
        })?;
    }
    if lasts.is_zero() || lasts > LONGEST {
        let message = "a suppression ends: expected a time of one second to 366 days";
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    }
    let now = Timestamp::now();
    let mark = mark(uid, reason, Some(now + lasts))?;
    desk.mark(Deed::Suppressed, what, Some(mark.clone()), now);
    Ok(marked(desk, what, mark))
}

fn unsuppress(desk: &mut Desk, what: &str) -> Result<Reply, ApiError> {
    match desk.mark(Deed::Suppressed, what, None, Timestamp::now()) {
        Some(mark) => Ok(marked(desk, what, mark)),
        None => {
            let message =
                format!("{what:?} is not suppressed; detector alert status shows what is");
            Err(ApiError::new(ErrorCode::NotFound, message))
        }
    }
}

fn kind(name: &str) -> Option<FindingKind> {
    FindingKind::ALL.into_iter().find(|kind| kind.as_str() == name)
}

fn known(desk: &Desk, id: &str) -> Result<(), ApiError> {
    if desk.state.open().values().any(|alert| alert.view.id == id) {
        return Ok(());
    }
    let message = format!(
        "no finding {id:?} is open; detector finding list shows all, and docs/findings.md the kinds"
    );
    Err(ApiError::new(ErrorCode::NotFound, message))
}

fn mark(uid: u32, reason: &str, until: Option<Timestamp>) -> Result<Mark, ApiError> {
    let why = reason.trim();
    if why.is_empty() || why.chars().count() > REASON {
        let message =
            format!("expected a reason of 1 to {REASON} characters, for whoever comes next");
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    }
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    Ok(Mark { uid, user, why: why.to_owned(), at: Timestamp::now(), until })
}

fn marked(desk: &Desk, what: &str, mark: Mark) -> Reply {
    let not_kept = desk.outbox.trouble().map(str::to_owned);
    Reply::Marked(Marked { what: what.to_owned(), mark, not_kept })
}

fn status(desk: &mut Desk) -> AlertStatus {
    let Desk { outbox, state, routes, .. } = desk;
    let sinks = routes.iter().map(|Route { sink, health, .. }| {
        let (waiting, first) = outbox.waiting(&sink.name);
        let tally = outbox.tally(&sink.name);
        let (kind, target) = sink.target();
        SinkView {
            name: sink.name.clone(),
            kind: kind.to_owned(),
            target,
            min_severity: sink.min_severity,
            waiting,
            waits_since: first.map(|entry| entry.notice.at),
            delivered: tally.delivered,
            refused: tally.refused,
            dropped: tally.dropped,
            last_delivery: health.last_delivery,
            failing_since: health.failing_since,
            error: health.error.clone(),
            next_try: health.next_try,
        }
    });
    let sinks = sinks.collect();
    let (size, most) = outbox.size();
    let suppressed = state.marks().iter().filter(|((deed, _), _)| *deed == Deed::Suppressed);
    AlertStatus {
        sinks,
        open: state.open().len() as u64,
        not_kept: outbox.trouble().map(str::to_owned),
        size,
        most,
        suppressions: suppressed
            .map(|((_, what), mark)| Suppression { what: what.clone(), mark: mark.clone() })
            .collect(),
    }
}

fn list(desk: &mut Desk) -> Vec<AlertEntry> {
    let Desk { outbox, routes, .. } = desk;
    let mut entries = Vec::new();
    for Route { sink, health, .. } in routes {
        for (place, entry) in outbox.next(&sink.name, LISTED).into_iter().enumerate() {
            let Notice { id, event, at, finding, .. } = entry.notice;
            entries.push(AlertEntry {
                id,
                sink: sink.name.clone(),
                event: event.as_str().to_owned(),
                at,
                kind: finding.kind,
                severity: finding.severity,
                finding: finding.id,
                title: finding.title,
                // Those behind the first have to wait for it.
                tries: if place == 0 { health.tries } else { 0 },
            });
        }
    }
    entries
}

/// The receivers that a test is for: one by its name, or all.
fn chosen(desk: &Desk, name: Option<&str>) -> Result<Vec<usize>, ApiError> {
    let routes = desk.routes.iter().enumerate();
    let chosen = routes.filter(|(_, route)| name.is_none_or(|name| route.sink.name == name));
    let chosen: Vec<_> = chosen.map(|(number, _)| number).collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let all: Vec<_> = desk.routes.iter().map(|route| route.sink.name.as_str()).collect();
    let message = match (name, all.is_empty()) {
        (_, true) => {
            "no receiver of alerts is configured; expected [[alerts.syslog]] or another of \
                      docs/alerts.md"
                .to_owned()
        }
        (name, false) => {
            let name = name.unwrap_or_default();
            let meant = did_you_mean(name, all.iter().copied());
            format!("no receiver is called {name:?}{meant}; expected one of {}", all.join(", "))
        }
    };
    Err(ApiError::new(ErrorCode::NotFound, message))
}

/// Sends a test alert past what waits, to each at once.
async fn test(desk: &Rc<RefCell<Desk>>, uid: u32, routes: Vec<usize>) -> Vec<Tried> {
    let mut tasks = Vec::new();
    for number in routes {
        let (sink, notice, tried) = {
            let mut desk = desk.borrow_mut();
            let notice = test_notice(&mut desk, uid);
            // Another configuration may have fewer.
            let Some(route) = desk.routes.get(number) else { continue };
            (Arc::clone(&route.sink), notice, Arc::clone(&route.tried))
        };
        tasks.push(spawn_local(async move {
            let outcome = try_one(&sink, notice).await;
            if outcome.error.is_none() {
                tried.notify_waiters();
            }
            outcome
        }));
    }
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.extend(task.await.ok());
    }
    outcomes
}

async fn try_one(sink: &Sink, notice: Notice) -> Tried {
    let began = Instant::now();
    let outcome = timeout(TEST, sink.deliver(&[notice])).await;
    let error = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure.why().to_owned()),
        Err(_) => Some(format!("no answer within {} seconds", TEST.as_secs())),
    };
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Tried { sink: sink.name.clone(), target: sink.target().1, error, milliseconds }
}

fn test_notice(desk: &mut Desk, uid: u32) -> Notice {
    let key = FindingKey { kind: FindingKind::AlertsUndelivered, subject: Subject::Host };
    let now = Timestamp::now();
    let finding = FindingView {
        id: findings::id(&key),
        kind: key.kind,
        subject: key.subject,
        severity: Severity::Medium,
        title: "This is a test of alerts: nothing is the matter.".to_owned(),
        evidence: vec![("asked by".to_owned(), format!("uid {uid}"))],
        next: None,
        since: now,
        acknowledged: None,
        suppressed: None,
    };
    let alert = Uuid::new_v5(&Uuid::NAMESPACE_OID, now.to_string().as_bytes());
    desk.notice(alert, Event::Test, finding, now)
}
