//! What this process may, which says how much the other checks can see.

use caps::{CapSet, Capability};

use super::{Finding, Patient, fine, unknown};

/// Without these much cannot be looked at.
const NEEDED: [Capability; 3] =
    [Capability::CAP_NET_ADMIN, Capability::CAP_BPF, Capability::CAP_PERFMON];

pub(super) fn check(_patient: &Patient<'_>) -> Vec<Finding> {
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    let all = held.contains(&Capability::CAP_SYS_ADMIN);
    let lacks = NEEDED
        .iter()
        .filter(|one| !(held.contains(one) || all && **one != Capability::CAP_NET_ADMIN));
    let lacks: Vec<_> = lacks.map(ToString::to_string).collect();
    vec![if lacks.is_empty() {
        fine("everything can be looked at")
    } else {
        unknown(
            format!("this user lacks {}, so that some checks see less", lacks.join(", ")),
            "run it as root",
        )
    }]
}
