//! What the enforcer has refused: nobody asks so who has not been tampered with, least of all this daemon.

use std::time::Duration;

use detector_core::model::{Finding, FindingKey, FindingKind, Severity, Subject, Timestamp};

use crate::{
    audit::{self, Entry, Kind, Who},
    enforcer::Refusals,
};

/// How long after the last refusal it stays a finding.
const QUIET: Duration = Duration::from_secs(3600);
/// Refusals are put on record this often at most, and how many there were.
const PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Refused {
    seen: Option<Seen>,
    /// Not on record yet.
    unrecorded: Refusals,
    recorded: Option<Timestamp>,
}

#[derive(Debug)]
struct Seen {
    first: Timestamp,
    last: Timestamp,
    all: Refusals,
}

impl Refused {
    /// Takes in what has been refused; what is to be put on record.
    pub(super) fn note(&mut self, now: Timestamp, refused: Refusals) -> Option<Entry> {
        if refused.count > 0 {
            for why in &refused.why {
                tracing::error!(why, "the enforcer has refused what this daemon asked for");
            }
            self.forget(now);
            let new = || Seen { first: now, last: now, all: Refusals::default() };
            let seen = self.seen.get_or_insert_with(new);
            seen.last = now;
            seen.all.add(refused.clone());
            self.unrecorded.add(refused);
        }
        let due = self.recorded.is_none_or(|at| now >= at + PAUSE);
        (due && self.unrecorded.count > 0).then(|| {
            self.recorded = Some(now);
            let Refusals { count, why } = std::mem::take(&mut self.unrecorded);
            Entry::new(Kind::OrdersRefused, Who::Daemon)
                .on(audit::Subject::new("host", "enforcer"))
                .why(why.first().cloned().unwrap_or_default())
                .because("refused", [count.to_string()])
                .because("orders", why)
        })
    }

    /// When the finding will have been quiet for long enough.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.seen.as_ref().map(|seen| seen.last + QUIET)
    }

    pub(super) fn findings(&mut self, now: Timestamp) -> Option<Finding> {
        self.forget(now);
        let seen = self.seen.as_ref()?;
        let why = seen.all.why.iter().map(|why| ("refused".to_owned(), why.clone()));
        let evidence = [("orders".to_owned(), seen.all.count.to_string())].into_iter().chain(why);
        Some(Finding {
            key: FindingKey { kind: FindingKind::OrdersRefused, subject: Subject::Host },
            severity: Severity::High,
            title: "The process that decides has asked the enforcer for what it may not have."
                .to_owned(),
            evidence: evidence.collect(),
            next: Some("detector audit list --kind orders-refused".to_owned()),
            since: seen.first,
        })
    }

    fn forget(&mut self, now: Timestamp) {
        self.seen.take_if(|seen| now >= seen.last + QUIET);
    }
}
