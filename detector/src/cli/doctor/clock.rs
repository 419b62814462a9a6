//! Whether dates in manifests can be believed to have come.

use detector_core::model::Timestamp;

use super::{Finding, Patient, fine, problem, warning};
use crate::clock::{self, Reading};

/// 1 January 2025 in milliseconds: this program is younger.
const RELEASED: Timestamp = Timestamp(1_735_689_600_000);

pub(super) fn check(_patient: &Patient<'_>) -> Vec<Finding> {
    vec![judge(&clock::read())]
}

pub(super) fn judge(reading: &Reading) -> Finding {
    let mend = "have a service keep it: `timedatectl set-ntp true`, or chrony";
    if reading.day < RELEASED {
        return problem("the clock shows a date from before this program was made", mend);
    }
    if !reading.synchronised {
        return warning(
            "nobody keeps the clock in step: should it be set, ends of templates are not known for a while",
            mend,
        );
    }
    fine("the clock is kept in step")
}
