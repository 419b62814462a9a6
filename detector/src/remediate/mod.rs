//! What becomes of a VM that has been cut off: it is patched, its template is approved, or an approved one takes its
//! place.
//!
//! What comes next is for `detector_core::remediate` to say, and when, for the daemon (`daemon::remediation`). Here
//! is what it is written down in, and what is done outside of the kernel.

pub mod contain;
pub mod evidence;
pub mod hands;
mod host;
mod kept;
pub mod provision;
pub mod replace;
pub mod storage;
mod store;

use std::collections::BTreeMap;

use detector_core::remediate::{Deed, Means};

use crate::config::Config;

pub(crate) use host::HostHands;
pub use store::Recalled;
pub(crate) use store::{EVENT, Owed, Store};

/// What this host has to remediate with.
pub(crate) fn means(config: &Config, hands: &dyn hands::Hands) -> Means {
    let deeds = [Deed::Evidence, Deed::Contain, Deed::Move, Deed::Provision, Deed::Replace];
    let deeds: BTreeMap<_, _> = deeds.into_iter().map(|deed| (deed, hands.can(deed))).collect();
    let keys = &config.remediation;
    Means {
        sandbox: config.sandbox.bridge.is_some(),
        approvals: keys.approvals,
        deeds,
        provisioners: keys
            .provisioners
            .iter()
            .map(|one| (one.name.clone(), one.runs_vm()))
            .collect(),
    }
}
