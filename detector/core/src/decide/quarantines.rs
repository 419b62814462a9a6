//! Which quarantine is on a port, if any.

use detector_common::{
    addr::Mac,
    quarantine::{Cause, QuarantineMode},
};
use uuid::Uuid;

use super::inventory::Merged;
use crate::{
    model::{Observed, Quarantine, QuarantineTarget},
    reconcile::Isolator,
};

/// What isolates a port.
pub(super) struct Held<'a> {
    /// The quarantine to name: a person's outweighs a verdict's, since it holds in observe mode too.
    pub(super) quarantine: &'a Quarantine,
    /// The strictest mode of those that are on the port.
    pub(super) mode: QuarantineMode,
}

/// The quarantines on a port, if any.
pub(super) fn on_port(
    observed: &Observed,
    (ifindex, instance): (u32, u32),
    macs: impl IntoIterator<Item = Mac>,
    vms: impl IntoIterator<Item = Uuid>,
) -> Option<Held<'_>> {
    if observed.quarantines.is_empty() {
        return None;
    }
    let targets = std::iter::once(QuarantineTarget::Port { ifindex, instance })
        .chain(macs.into_iter().map(QuarantineTarget::Mac))
        .chain(vms.into_iter().map(QuarantineTarget::Vm));
    targets.filter_map(|target| observed.quarantines.get(&target)).fold(None, |held, quarantine| {
        let mode = quarantine.mode;
        Some(match held {
            None => Held { quarantine, mode },
            Some(Held { quarantine: other, mode: strictest }) => Held {
                quarantine: if quarantine.cause >= other.cause { quarantine } else { other },
                mode: mode.min(strictest),
            },
        })
    })
}

/// Whether a quarantine is in force on something that no source lists: it may be what isolates a
/// port whose VM is not known at present.
pub(super) fn any_unaccounted(observed: &Observed, inventory: &[Merged<'_>]) -> bool {
    observed.quarantines.keys().any(|target| match target {
        QuarantineTarget::Port { .. } => false,
        QuarantineTarget::Mac(mac) => {
            !inventory.iter().flat_map(|merged| &merged.vm.nics).any(|nic| nic.mac == *mac)
        }
        QuarantineTarget::Vm(uuid) => {
            inventory.binary_search_by_key(uuid, |merged| merged.vm.uuid).is_err()
        }
    })
}

/// By whom a quarantine isolates.
pub(super) fn isolator(cause: Cause) -> Isolator {
    match cause {
        Cause::Verdict => Isolator::Verdict,
        Cause::Operator => Isolator::Operator,
    }
}
