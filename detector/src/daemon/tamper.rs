//! What somebody else has changed in what is in force: one finding for each port and for the host,
//! however often it happens.

use std::{collections::BTreeMap, time::Duration};

use detector_core::{
    decide::show_port,
    model::{Finding, FindingKey, FindingKind, Severity, Subject, Timestamp, World},
};

use crate::enforcer::{Tampered, Tampering};

/// How long after it was last seen tampering stays a finding.
const QUIET: Duration = Duration::from_secs(600);

/// The interface and its instance; `None` for the host.
type Place = Option<(u32, u32)>;

#[derive(Debug, Default)]
pub(super) struct Tampers {
    /// Bounded by the interfaces that can be guarded: those of ports that are gone go with the next
    /// one that is noted.
    seen: BTreeMap<Place, BTreeMap<Tampered, Seen>>,
}

#[derive(Debug)]
struct Seen {
    first: Timestamp,
    last: Timestamp,
    /// How often it was put back.
    put_back: u64,
    found: String,
    /// Why it is not put back now.
    left: Option<String>,
}

impl Tampers {
    pub(super) fn note(&mut self, now: Timestamp, tampering: Vec<Tampering>) {
        if tampering.is_empty() {
            return;
        }
        self.forget(now);
        let mut batch: BTreeMap<(Place, Tampered), (Vec<String>, Option<String>)> = BTreeMap::new();
        for Tampering { port, what, found, left } in tampering {
            match &left {
                None => tracing::warn!(?port, what = what.as_str(), found, "tampered: put back"),
                Some(why) => {
                    tracing::warn!(?port, what = what.as_str(), found, why, "tampered: stays");
                }
            }
            let (all, why) = batch.entry((port, what)).or_default();
            all.push(found);
            *why = why.take().or(left);
        }
        for ((port, what), (found, left)) in batch {
            let seen = self.seen.entry(port).or_default().entry(what).or_insert_with(|| Seen {
                first: now,
                last: now,
                put_back: 0,
                found: String::new(),
                left: None,
            });
            seen.last = now;
            seen.put_back += u64::from(left.is_none());
            (seen.found, seen.left) = (listed(&found), left);
        }
    }

    /// When a finding will have been quiet for long enough.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.seen.values().filter_map(last).min().map(|last| last + QUIET)
    }

    pub(super) fn findings(&mut self, now: Timestamp, world: &World) -> Vec<Finding> {
        self.forget(now);
        self.seen.iter().map(|(place, seen)| finding(*place, seen, world)).collect()
    }

    fn forget(&mut self, now: Timestamp) {
        self.seen.retain(|_, seen| last(seen).is_some_and(|last| now < last + QUIET));
    }
}

fn last(seen: &BTreeMap<Tampered, Seen>) -> Option<Timestamp> {
    seen.values().map(|seen| seen.last).max()
}

fn finding(place: Place, seen: &BTreeMap<Tampered, Seen>, world: &World) -> Finding {
    let name = place.map(|(ifindex, _)| {
        let link = world.links.get(&ifindex);
        link.map_or_else(|| format!("interface {ifindex}"), |link| link.name.clone())
    });
    let subject =
        place.map_or(Subject::Host, |(ifindex, instance)| Subject::Port { ifindex, instance });
    let left = seen.values().any(|seen| seen.left.is_some());
    let of = name.as_ref().map_or("this host".to_owned(), |name| format!("{name:?}"));
    let title = if left {
        format!("What is in force on {of} was tampered with, and is not all put back.")
    } else {
        format!("What is in force on {of} was tampered with; it was put back.")
    };
    let mut evidence: Vec<_> = name.iter().map(|name| ("port".to_owned(), name.clone())).collect();
    for (what, seen) in seen {
        let Seen { put_back, found, left, .. } = seen;
        let outcome = match left {
            None => format!("put back {}", times(*put_back)),
            Some(why) => format!("put back {}, not now: {why}", times(*put_back)),
        };
        evidence.push((what.as_str().to_owned(), format!("{found} ({outcome})")));
        let last = jiff::Timestamp::from_millisecond(i64::try_from(seen.last.0).unwrap_or(0));
        let last = last.map_or_else(|_| String::new(), |last| last.to_string());
        evidence.push((format!("{}, last", what.as_str()), last));
    }
    Finding {
        key: FindingKey { kind: FindingKind::Tampered, subject },
        severity: if left { Severity::Critical } else { Severity::High },
        title,
        evidence,
        next: Some(name.map_or("detector status".to_owned(), |name| show_port(&name))),
        since: seen.values().map(|seen| seen.first).min().unwrap_or_default(),
    }
}

/// The first few of what was found.
fn listed(found: &[String]) -> String {
    const LISTED: usize = 4;
    let mut text = found.iter().take(LISTED).cloned().collect::<Vec<_>>().join("; ");
    if found.len() > LISTED {
        text.push_str(&format!("; {} more", found.len() - LISTED));
    }
    text
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}
