//! Which findings are open: decisions name them turn after turn, people are told when one opens and
//! when it closes.

mod journal;
mod limit;

pub use journal::{Journal, log};

use std::collections::BTreeMap;

use detector_core::api::view::FindingView;
use detector_core::decide::ENRICHED;
use detector_core::model::{Finding, FindingKey, FindingKind, Subject, Timestamp};
use sha2::{Digest, Sha256};

use limit::Limit;

/// Names a finding in commands and alerts: short enough to be typed, and the same on each start.
pub fn id(key: &FindingKey) -> String {
    let text = serde_json::to_vec(key).unwrap_or_default();
    Sha256::digest(text).iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// As replies show it, before anybody has said anything of it.
pub fn view(finding: &Finding) -> FindingView {
    FindingView::new(id(&finding.key), finding)
}

/// What people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Opened(Finding),
    /// It is more severe, or more is known of whom it is about.
    Changed(Finding),
    Closed(Finding),
}

/// The open findings, and which of them people have been told of.
#[derive(Debug, Default)]
pub struct Tracker {
    open: BTreeMap<FindingKey, Finding>,
    told: BTreeMap<FindingKey, Finding>,
    limit: Limit,
    deferred: Option<Timestamp>,
}

impl Tracker {
    /// Takes what is the case now, and returns what to tell.
    ///
    /// A finding that opens and closes again and again is told of at a bounded rate; how it ended
    /// is told in any case, later.
    pub fn update(&mut self, now: Timestamp, findings: Vec<Finding>) -> Vec<Change> {
        let mut open = BTreeMap::new();
        for mut finding in findings {
            if cfg!(test) {
                assert!(finding.is_in_its_class(), "docs/findings.md says otherwise: {finding:?}");
            }
            if let Some(known) = self.open.get(&finding.key) {
                finding.since = known.since.min(finding.since);
            }
            open.entry(finding.key.clone()).or_insert(finding);
        }
        self.open = open;
        self.tell(now)
    }

    /// The same for one subject and some kinds of finding, which are `findings` now, while everything
    /// else stays as it is.
    pub fn replace(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        kinds: &[FindingKind],
        findings: Vec<Finding>,
    ) -> Vec<Change> {
        let key = |kind: &FindingKind| FindingKey { kind: *kind, subject: subject.clone() };
        let keys: Vec<_> = kinds.iter().map(key).collect();
        let mut before: BTreeMap<_, _> =
            keys.iter().filter_map(|key| self.open.remove_entry(key)).collect();
        for mut finding in findings {
            if let Some(known) = before.remove(&finding.key) {
                finding.since = known.since.min(finding.since);
            }
            self.open.insert(finding.key.clone(), finding);
        }
        let is_news = |key: &FindingKey| match (self.open.get(key), self.told.get(key)) {
            (Some(now), Some(told)) => is_more(now, told),
            (now, told) => now.is_some() != told.is_some(),
        };
        let changed = keys.into_iter().filter(is_news).collect();
        self.tell_of(now, changed)
    }

    pub fn is_open(&self, key: &FindingKey) -> bool {
        self.open.contains_key(key)
    }

    /// The open findings, the most severe first.
    pub fn open(&self) -> Vec<&Finding> {
        let mut open: Vec<_> = self.open.values().collect();
        open.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        open
    }

    /// What people know to be open.
    pub fn told(&self) -> impl Iterator<Item = &Finding> {
        self.told.values()
    }

    /// When there is something to tell that was held back.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.deferred
    }

    fn tell(&mut self, now: Timestamp) -> Vec<Change> {
        let closed = self.told.keys().filter(|key| !self.open.contains_key(key));
        let is_news = |(key, now): &(&FindingKey, &Finding)| {
            self.told.get(key).is_none_or(|told| is_more(now, told))
        };
        let opened = self.open.iter().filter(is_news).map(|(key, _)| key);
        let changed: Vec<_> = closed.chain(opened).cloned().collect();
        self.deferred = None;
        self.tell_of(now, changed)
    }

    /// Tells that these have opened or closed, as far as the limit allows now.
    fn tell_of(&mut self, now: Timestamp, changed: Vec<FindingKey>) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in changed {
            if let Err(until) = self.limit.take(&key, now) {
                self.deferred = Some(self.deferred.map_or(until, |at| at.min(until)));
                continue;
            }
            match self.open.get(&key) {
                Some(finding) => {
                    let finding = finding.clone();
                    changes.push(match self.told.insert(key, finding.clone()) {
                        None => Change::Opened(finding),
                        Some(_) => Change::Changed(finding),
                    });
                }
                None => changes.extend(self.told.remove(&key).map(Change::Closed)),
            }
        }
        changes
    }
}

/// Whether people are told again of a finding that they know of. That there are more claims or frames of
/// the same kind is no news; who is behind it is.
fn is_more(now: &Finding, told: &Finding) -> bool {
    let has =
        |finding: &Finding, name: &str| finding.evidence.iter().any(|(known, _)| known == name);
    let newly = |name: &&&str| has(now, name) && !has(told, name);
    let of_a_port = matches!(now.key.subject, Subject::Port { .. });
    now.severity > told.severity || (of_a_port && ENRICHED.iter().any(|name| newly(&name)))
}

#[cfg(test)]
mod tests;
