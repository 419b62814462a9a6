//! Where alerts are made out of findings: each once, however often a finding is told of, and none of
//! what somebody has suppressed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use detector_core::model::{Finding, FindingKey};
use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    host::Origin,
    notice::{Event, Notice},
    outbox::Outbox,
    sink::Sink,
    state::{Alert, Deed, State, is_suppressed, label},
};
use crate::{
    api::view::{FindingView, Mark},
    findings::{self, Change},
};

/// The namespace of identifiers of alerts and notices.
const NAMESPACE: Uuid = Uuid::from_u128(0x9a5f_6b0e_8c1d_4a53_9d0b_71f2_4b7c_02e6);

/// The alerts of this host. Whoever has it has it for a moment: nobody waits while holding it.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) outbox: Outbox,
    pub(super) state: State,
    pub(super) routes: Vec<Route>,
    pub(super) origin: Arc<Origin>,
    /// Notices that have been made, so that each has an identifier of its own.
    made: u64,
}

/// A receiver, and how it is doing.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) sink: Arc<Sink>,
    /// Rung when there is something for it.
    pub(super) bell: Arc<Notify>,
    /// Rung when somebody has found that it works.
    pub(super) tried: Arc<Notify>,
    pub(super) health: Health,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) last_delivery: Option<Timestamp>,
    pub(super) failing_since: Option<Timestamp>,
    pub(super) error: Option<String>,
    pub(super) next_try: Option<Timestamp>,
    pub(super) tries: u32,
}

impl Desk {
    pub(super) fn new(outbox: Outbox, state: State, sinks: Vec<Sink>, origin: Arc<Origin>) -> Self {
        let mut desk = Self { outbox, state, routes: Vec::new(), origin, made: 0 };
        desk.connect(sinks);
        desk
    }

    /// These are the receivers from now on. What waits for one goes by its name: it is delivered to whoever has that
    /// name now, and waits where nobody has.
    pub(super) fn connect(&mut self, sinks: Vec<Sink>) {
        let before = std::mem::take(&mut self.routes).into_iter();
        let mut before: BTreeMap<String, Health> =
            before.map(|route| (route.sink.name.clone(), route.health)).collect();
        let route = |sink: Sink| Route {
            health: before.remove(&sink.name).unwrap_or_default(),
            sink: Arc::new(sink),
            bell: Arc::default(),
            tried: Arc::default(),
        };
        self.routes = sinks.into_iter().map(route).collect();
    }

    /// Takes in what has happened to a finding.
    pub(super) fn take(&mut self, change: &Change, now: Timestamp) {
        let notices = match change {
            Change::Opened(finding) | Change::Changed(finding) => self.stands(finding, now),
            Change::Closed(finding) => self.ended(&finding.key, now).into_iter().collect(),
        };
        self.commit(notices);
    }

    /// Takes in what is open, all of it: what else was open is over.
    pub(super) fn take_all(&mut self, findings: &[Finding], now: Timestamp) {
        let open: BTreeSet<_> = findings.iter().map(|finding| &finding.key).collect();
        let over: Vec<_> =
            self.state.open().keys().filter(|key| !open.contains(key)).cloned().collect();
        let mut notices: Vec<_> = over.iter().flat_map(|key| self.ended(key, now)).collect();
        notices.extend(findings.iter().flat_map(|finding| self.stands(finding, now)));
        self.commit(notices);
    }

    /// Sets or takes away what somebody says of findings; `what` is an identifier or the name of a kind.
    /// What was there before.
    pub(super) fn mark(
        &mut self,
        deed: Deed,
        what: &str,
        mark: Option<Mark>,
        now: Timestamp,
    ) -> Option<Mark> {
        let sets = mark.is_some();
        let before = self.state.set_mark(deed, what, mark);
        let mut notices = Vec::new();
        if deed == Deed::Acknowledged && sets {
            let told = self.state.open().values().filter(|alert| alert.told);
            let marked = told.filter(|alert| alert.view.id == what);
            let marked: Vec<_> = marked.map(|alert| (alert.id, alert.view.clone())).collect();
            notices.extend(
                marked
                    .into_iter()
                    .map(|(id, view)| self.notice(id, Event::Acknowledged, view, now)),
            );
        }
        notices.extend(self.follow_suppressions(now));
        self.commit(notices);
        before
    }

    /// Ends suppressions whose time has come, and tells of what they have hidden.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let over = |(_, mark): &(&(Deed, String), &Mark)| mark.until.is_some_and(|at| at <= now);
        let over: Vec<_> =
            self.state.marks().iter().filter(over).map(|(key, _)| key.clone()).collect();
        for (deed, what) in over {
            self.state.set_mark(deed, &what, None);
        }
        let notices = self.follow_suppressions(now);
        self.commit(notices);
    }

    /// Everything that is open and told of, for a receiver that wants to hear it again.
    pub(super) fn still_open(&mut self, route: usize, now: Timestamp) -> Vec<Notice> {
        let least = self.routes[route].sink.min_severity;
        let told = self.state.open().values().filter(|alert| alert.told);
        let told = told.filter(|alert| alert.view.severity >= least);
        let told: Vec<_> = told.map(|alert| (alert.id, alert.view.clone())).collect();
        told.into_iter().map(|(id, view)| self.notice(id, Event::Opened, view, now)).collect()
    }

    /// A notice that is about an alert, with what people have said of it.
    pub(super) fn notice(
        &mut self,
        alert: Uuid,
        event: Event,
        mut finding: FindingView,
        at: Timestamp,
    ) -> Notice {
        label(self.state.marks(), &mut finding);
        self.made += 1;
        let of = format!("{alert} {event} {} {}", at.as_nanosecond(), self.made);
        Notice { id: Uuid::new_v5(&NAMESPACE, of.as_bytes()), alert, event, at, finding }
    }

    /// A finding is the case.
    fn stands(&mut self, finding: &Finding, now: Timestamp) -> Vec<Notice> {
        let mut view = findings::view(finding);
        let Some(known) = self.state.open().get(&finding.key) else {
            let told = !is_suppressed(self.state.marks(), &view);
            let of = format!("{} {} {}", self.origin.uid, view.id, now.as_nanosecond());
            let id = Uuid::new_v5(&NAMESPACE, of.as_bytes());
            self.state.set(finding.key.clone(), Alert { id, told, view: view.clone() });
            let opened = told.then(|| self.notice(id, Event::Opened, view, now));
            return opened.into_iter().collect();
        };
        // It began when it was told of first, and is no less than that.
        let (id, told, before) = (known.id, known.told, &known.view);
        view.since = view.since.min(before.since);
        view.severity = view.severity.max(before.severity);
        let more = view.severity > before.severity || view.evidence.len() > before.evidence.len();
        if view == *before {
            return Vec::new();
        }
        self.state.set(finding.key.clone(), Alert { id, told, view: view.clone() });
        let changed = (told && more).then(|| self.notice(id, Event::Changed, view, now));
        changed.into_iter().collect()
    }

    fn ended(&mut self, key: &FindingKey, now: Timestamp) -> Option<Notice> {
        let Alert { id, told, view } = self.state.end(key)?;
        let closed = told.then(|| self.notice(id, Event::Closed, view.clone(), now));
        // What comes again has not been seen to.
        if self.state.mark(Deed::Acknowledged, &view.id).is_some() {
            self.state.set_mark(Deed::Acknowledged, &view.id, None);
        }
        closed
    }

    /// What follows from what is suppressed now.
    fn follow_suppressions(&mut self, now: Timestamp) -> Vec<Notice> {
        let marks = self.state.marks();
        let wrong =
            |(_, alert): &(&FindingKey, &Alert)| alert.told == is_suppressed(marks, &alert.view);
        let wrong: Vec<_> = self
            .state
            .open()
            .iter()
            .filter(wrong)
            .map(|(key, alert)| (key.clone(), alert.clone()))
            .collect();
        let mut notices = Vec::new();
        for (key, mut alert) in wrong {
            alert.told = !alert.told;
            let event = if alert.told { Event::Opened } else { Event::Suppressed };
            notices.push(self.notice(alert.id, event, alert.view.clone(), now));
            self.state.set(key, alert);
        }
        notices
    }

    /// Keeps the notices for every receiver that wants such, and rings for it.
    fn commit(&mut self, notices: Vec<Notice>) {
        let mut out = Vec::new();
        for notice in notices {
            let wanted = |route: &&Route| notice.severity() >= route.sink.min_severity;
            for route in self.routes.iter().filter(wanted) {
                out.push((route.sink.name.clone(), notice.clone()));
                route.bell.notify_one();
            }
        }
        self.outbox.commit(&mut self.state, &out);
    }
}

#[cfg(test)]
mod tests;
