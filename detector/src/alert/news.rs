//! What the brain is told of alerts: what people have said of findings, and what does not go out.

use std::time::Duration;

use detector_core::model::{Finding, FindingKey, FindingKind, Severity, Subject, Timestamp};

use super::{
    ToBrain,
    desk::{Desk, Route},
    outbox::Tally,
    state::{Marks, label},
};
use crate::api::view::FindingView;

/// For how long it is told that something was given up.
const TOLD: Duration = Duration::from_secs(60 * 60);

/// What the brain shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    marks: Marks,
    /// Receivers that do not take what they are sent, and a disk that does not.
    pub findings: Vec<Finding>,
}

impl News {
    /// Adds to a finding what people have said of it.
    pub fn label(&self, view: &mut FindingView) {
        label(&self.marks, view);
    }
}

/// Tells the brain what has changed.
#[derive(Debug)]
pub(super) struct Teller {
    overdue: Duration,
    last: Option<News>,
    /// Since when it is not kept, and what each receiver has not got.
    not_kept: Option<Timestamp>,
    losses: Vec<(Tally, Option<Timestamp>)>,
}

impl Teller {
    pub(super) fn new(overdue: Duration) -> Self {
        Self { overdue, last: None, not_kept: None, losses: Vec::new() }
    }

    /// What is not taken now is told the next time.
    pub(super) fn tell(&mut self, desk: &mut Desk, tell: &dyn Fn(ToBrain) -> bool) {
        let now = crate::clock::now();
        let mut findings: Vec<_> = self.not_kept(desk, now).into_iter().collect();
        self.losses.resize(desk.routes.len(), Default::default());
        for number in 0..desk.routes.len() {
            findings.extend(self.undelivered(desk, number, now));
        }
        let news = News { marks: desk.state.marks().clone(), findings };
        if self.last.as_ref() != Some(&news) && tell(ToBrain::News(news.clone())) {
            self.last = Some(news);
        }
    }

    fn not_kept(&mut self, desk: &Desk, now: Timestamp) -> Option<Finding> {
        let Some(why) = desk.outbox.trouble() else {
            self.not_kept = None;
            return None;
        };
        let since = *self.not_kept.get_or_insert(now);
        let title = "Alerts are not kept over a restart: what has not been delivered then is lost.";
        let evidence = vec![("why".to_owned(), why.to_owned())];
        Some(finding("outbox", Severity::High, title.to_owned(), evidence, since))
    }

    fn undelivered(&mut self, desk: &Desk, number: usize, now: Timestamp) -> Option<Finding> {
        let Route { sink, health, .. } = &desk.routes[number];
        let tally = desk.outbox.tally(&sink.name);
        let (known, lost) = &mut self.losses[number];
        if self.last.is_some() && (tally.dropped, tally.refused) != (known.dropped, known.refused) {
            *lost = Some(now);
        }
        *known = tally;
        *lost = lost.filter(|at| now < *at + TOLD);
        let waits = health.failing_since.map(|since| {
            let passed = jiff::Timestamp::now().duration_since(since);
            Duration::try_from(passed).unwrap_or_default()
        });
        let late = waits.filter(|waits| *waits >= self.overdue);
        let (severity, title, since) = match (late, *lost) {
            (None, None) => return None,
            (_, Some(at)) => {
                let title =
                    format!("Alerts for {} were given up, or it does not want them.", sink.name);
                (Severity::High, title, at)
            }
            (Some(_), None) => {
                let title = format!("Alerts do not reach {}: they wait.", sink.name);
                let since = health.failing_since.map_or(0, jiff::Timestamp::as_millisecond);
                (Severity::Medium, title, Timestamp(since.unsigned_abs()))
            }
        };
        let mut evidence = vec![("receiver".to_owned(), sink.target().1)];
        evidence.extend(health.error.iter().map(|error| ("error".to_owned(), error.clone())));
        if lost.is_some() {
            evidence.push(("given up".to_owned(), tally.dropped.to_string()));
            evidence.push(("not wanted".to_owned(), tally.refused.to_string()));
        }
        Some(finding(&format!("sink {}", sink.name), severity, title, evidence, since))
    }
}

fn finding(
    place: &str,
    severity: Severity,
    title: String,
    evidence: Vec<(String, String)>,
    since: Timestamp,
) -> Finding {
    let subject = Subject::Place(format!("alerts {place}"));
    Finding {
        key: FindingKey { kind: FindingKind::AlertsUndelivered, subject },
        severity,
        title,
        evidence,
        next: Some("detector alert status".to_owned()),
        since,
    }
}
