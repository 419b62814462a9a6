use std::collections::BTreeMap;

use detector_core::fleet::message::Time;

use super::{Correlation, Kind};

/// For so many seconds a VM may be on its way between two hosts; a host that says so for longer hides a twin.
const HANDOVER: i64 = 60 * 60;

/// Since when each is the case. Hosts say what has changed one after another, so that a VM that moves is for a moment on
/// both, or on neither: what may be such a moment is told once it has lasted.
#[derive(Debug)]
pub struct Settling {
    lasts: i64,
    /// By what is the matter with what: a host that joins in and leaves again begins nothing anew.
    since: BTreeMap<(Kind, String), Since>,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    any: Time,
    /// Since it can be no handover.
    plain: Option<Time>,
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
            let known = before.get(&key);
            let at = |before: Option<Time>| before.unwrap_or(now).min(now);
            let any = at(known.map(|since| since.any));
            let plain = (!one.handover).then(|| at(known.and_then(|since| since.plain)));
            self.since.insert(key, Since { any, plain });
        }
        let lasts = |since: Time| now.as_second() - since.as_second();
        let since = |one: Correlation| {
            let Since { any, plain } = *self.since.get(&key(&one))?;
            let settled = plain
                .filter(|since| !one.kind.may_be_between() || lasts(*since) >= self.lasts)
                .or_else(|| Some(any).filter(|since| lasts(*since) >= HANDOVER));
            Some((one, settled?))
        };
        found.into_iter().filter_map(since).collect()
    }
}
