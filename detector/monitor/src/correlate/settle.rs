use std::collections::BTreeMap;

use detector_core::fleet::message::Time;

use super::{Correlation, Kind};

/// Since when each is the case. Hosts say what has changed one after another, so that a VM that moves is for a moment on
/// both, or on neither: what may be such a moment is told once it has lasted.
#[derive(Debug)]
pub struct Settling {
    lasts: i64,
    /// By what is the matter with what: a host that joins in and leaves again begins nothing anew.
    since: BTreeMap<(Kind, String), Time>,
}

impl Settling {
    /// `seconds` is how long it has to last.
    pub fn new(seconds: u32) -> Self {
        Self { lasts: seconds.into(), since: BTreeMap::new() }
    }

    /// What of it is to be told at this moment.
    pub fn turn(&mut self, now: Time, found: Vec<Correlation>) -> Vec<(Correlation, Time)> {
        let key = |one: &Correlation| (one.kind, one.subject.clone());
        let before = std::mem::take(&mut self.since);
        for one in &found {
            let key = key(one);
            let since = before.get(&key).copied().unwrap_or(now).min(now);
            self.since.insert(key, since);
        }
        let since = |one: Correlation| {
            let since = *self.since.get(&key(&one))?;
            let lasts = now.as_second() - since.as_second();
            (!one.kind.may_be_between() || lasts >= self.lasts).then_some((one, since))
        };
        found.into_iter().filter_map(since).collect()
    }
}
