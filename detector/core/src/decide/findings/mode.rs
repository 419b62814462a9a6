//! What loosens the host, for a while or by itself.

use detector_common::settings::{Cause, Mode};

use super::{Found, finding, pair};
use crate::{
    decide::text::bounded,
    model::{Deed, FindingKind, Severity, Subject, World},
};

pub(super) fn report(world: &World, found: &mut Found) {
    let Some(observed) = &world.observed.mode else { return };
    let deed = &observed.record.deed;
    if observed.is_provisional() && observed.effective() == Mode::Observe {
        found.add(finding(
            (FindingKind::BreakGlass, Subject::Host),
            Severity::Critical,
            format!(
                "Break-glass by uid {}: nothing is dropped but what an operator quarantines, until the \
                 deadline. {}",
                deed.uid,
                bounded(&deed.why)
            ),
            evidence(deed),
            Some("detector enforce".to_owned()),
            deed.since,
        ));
    }
    if deed.cause == Cause::Lapsed && observed.effective() == Mode::Observe {
        found.add(finding(
            (FindingKind::EnforcingLapsed, Subject::Host),
            Severity::High,
            "Nobody has confirmed enforcing in time: the host observes again, and drops nothing but what \
             an operator quarantines."
                .to_owned(),
            evidence(deed),
            Some("detector enforce --dry-run".to_owned()),
            deed.since,
        ));
    }
    if observed.maintenance.is_some()
        && let Some(maintenance) = &observed.record.maintenance
    {
        let deed = &maintenance.deed;
        found.add(finding(
            (FindingKind::Maintenance, Subject::Host),
            Severity::High,
            format!(
                "Maintenance by uid {}: denials are findings only, until the deadline. {}",
                deed.uid,
                bounded(&deed.why)
            ),
            evidence(deed),
            Some("detector maintenance --end".to_owned()),
            deed.since,
        ));
    }
}

fn evidence(deed: &Deed) -> Vec<(String, String)> {
    vec![pair("uid", deed.uid), pair("reason", &deed.why)]
}
