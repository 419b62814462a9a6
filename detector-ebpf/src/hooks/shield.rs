//! The shield of a port that is isolated and floods: its frames end before there is a buffer for them.

use detector_common::{port::flags, reason::Reason};

use crate::{counters, lookup};

/// Whether frames of the port end here. A shield says no more than the slot does: where the port is not
/// isolated, or is but the isolation is not carried out, it is as if there was none.
#[inline(always)]
pub(crate) fn drops(ifindex: u32) -> bool {
    let Some(settings) = lookup::settings() else { return false };
    let Some(slot) = lookup::port(ifindex) else { return false };
    let carried_out = lookup::drops(slot, settings);
    let isolated = slot.has(flags::ISOLATED) && !slot.is_sandboxed() && carried_out;
    if isolated {
        counters::from(slot, Reason::PortIsolated as u8);
    }
    isolated
}
