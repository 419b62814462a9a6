//! Which quarantine is on a port, if any.

use detector_common::{addr::Mac, quarantine::Cause};
use uuid::Uuid;

use super::inventory::Merged;
use crate::{
    model::{Observed, Quarantine, QuarantineTarget},
    reconcile::Isolation,
};

/// The quarantine that isolates a port. A person's outweighs a verdict's, since it holds in observe
/// mode too.
pub(super) fn on_port(
    observed: &Observed,
    (ifindex, instance): (u32, u32),
    macs: impl IntoIterator<Item = Mac>,
    vms: impl IntoIterator<Item = Uuid>,
) -> Option<&Quarantine> {
    if observed.quarantines.is_empty() {
        return None;
    }
    std::iter::once(QuarantineTarget::Port { ifindex, instance })
        .chain(macs.into_iter().map(QuarantineTarget::Mac))
        .chain(vms.into_iter().map(QuarantineTarget::Vm))
        .filter_map(|target| observed.quarantines.get(&target))
        .max_by_key(|quarantine| quarantine.cause)
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

/// How a quarantine is carried out.
pub(super) fn isolation(cause: Cause) -> Isolation {
    match cause {
        Cause::Verdict => Isolation::Verdict,
        Cause::Operator => Isolation::Operator,
    }
}
