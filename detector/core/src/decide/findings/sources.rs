//! Sources that do not answer, and entries that were refused.

use super::{Found, finding, pair};
use crate::{
    decide::text::bounded,
    model::{FindingKind, Health, Rejected, Severity, Subject, Timestamp, World},
};

pub(super) fn report(world: &World, found: &mut Found) {
    for (name, source) in &world.sources {
        if let Health::Lost { since, why } = &source.health {
            lost(found, name, why, *since);
        }
        rejections(found, &source.rejected, world.now);
    }
    if let Some(why) = &world.registry.lost {
        lost(found, "templates", why, world.now);
    }
    rejections(found, &world.registry.rejected, world.now);
}

pub(super) fn lost(found: &mut Found, name: &str, why: &str, since: Timestamp) {
    found.add(finding(
        (FindingKind::SourceLost, Subject::Source(name.to_owned())),
        Severity::Medium,
        format!(
            "{name} is lost ({}): what is in force stays, nothing new is admitted.",
            bounded(why)
        ),
        vec![pair("source", name), pair("why", why)],
        Some("detector status".to_owned()),
        since,
    ));
}

fn rejections(found: &mut Found, rejected: &[Rejected], now: Timestamp) {
    for entry in rejected {
        found.add(finding(
            (FindingKind::EntryRejected, Subject::Place(entry.place.clone())),
            Severity::Low,
            format!("{} was refused, the rest holds: {}.", entry.place, bounded(&entry.why)),
            vec![pair("place", &entry.place), pair("why", &entry.why)],
            None,
            now,
        ));
    }
}
