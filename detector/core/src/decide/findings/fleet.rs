//! The fleet that this host is of: nothing in force depends on it, and somebody has to know.

use super::{Found, finding, pair};
use crate::{
    decide::text::bounded,
    model::{FindingKind, Severity, Subject, World},
};

/// Differences that are repeated.
const MOST: usize = 10;

pub(super) fn report(world: &World, found: &mut Found) {
    let fleet = &world.fleet;
    let subject = || Subject::Source("fleet".to_owned());
    if let Some(lost) = &fleet.lost {
        found.add(finding(
            (FindingKind::FleetLost, subject()),
            Severity::Medium,
            format!(
                "The fleet is not reached ({}): what is in force stays, and what there is to tell waits.",
                bounded(&lost.what)
            ),
            vec![pair("why", &lost.what)],
            Some("detector status".to_owned()),
            lost.since,
        ));
    }
    if let Some(refused) = &fleet.refused {
        found.add(finding(
            (FindingKind::FleetRefused, Subject::Place("bundle".to_owned())),
            Severity::High,
            format!(
                "Version {} of the fleet's policy is not taken, what was in force stays: {}.",
                refused.version,
                bounded(&refused.why)
            ),
            vec![pair("version", refused.version), pair("why", &refused.why)],
            Some("detector fleet policy verify BUNDLE".to_owned()),
            refused.since,
        ));
    }
    if let Some(unread) = &fleet.unread {
        found.add(finding(
            (FindingKind::FleetRefused, Subject::Place("message".to_owned())),
            Severity::Medium,
            format!("Something came from the fleet that is not read: {}.", bounded(&unread.what)),
            vec![pair("why", &unread.what)],
            None,
            unread.since,
        ));
    }
    if let Some(first) = fleet.drift.first() {
        found.add(finding(
            (FindingKind::PolicyDrift, subject()),
            Severity::High,
            format!(
                "The policy and templates in force are not those of the fleet's bundle: {}.",
                bounded(first)
            ),
            fleet.drift.iter().take(MOST).map(|what| pair("difference", what)).collect(),
            Some("detector policy show".to_owned()),
            fleet.drifted,
        ));
    }
}
