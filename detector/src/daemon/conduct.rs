//! What VMs have done lately, as findings say: whoever is cut off for it does it no more, and is not spared for that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_core::model::{FindingKind, Timestamp};
use uuid::Uuid;

/// How long it is held against a VM that a finding said so.
const LASTS: Duration = Duration::from_secs(10 * 60);

/// When each was last said of a VM.
#[derive(Debug, Default)]
pub(super) struct Conduct(BTreeMap<Uuid, BTreeMap<FindingKind, Timestamp>>);

impl Conduct {
    /// With what is said now, what has been said of whom.
    pub(super) fn with(
        &mut self,
        said: BTreeMap<Uuid, BTreeSet<FindingKind>>,
        now: Timestamp,
    ) -> BTreeMap<Uuid, BTreeSet<FindingKind>> {
        for (vm, kinds) in said {
            self.0.entry(vm).or_default().extend(kinds.into_iter().map(|kind| (kind, now)));
        }
        for kinds in self.0.values_mut() {
            kinds.retain(|_, at| now < *at + LASTS);
        }
        self.0.retain(|_, kinds| !kinds.is_empty());
        self.0.iter().map(|(vm, kinds)| (*vm, kinds.keys().copied().collect())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_against_a_vm_for_some_time() {
        let (vm, flood, spoof) =
            (Uuid::from_u128(1), FindingKind::Flood, FindingKind::ForeignIdentity);
        let said = |kind| BTreeMap::from([(vm, BTreeSet::from([kind]))]);
        let mut conduct = Conduct::default();
        let start = Timestamp(1_000);
        assert_eq!(conduct.with(said(flood), start), said(flood));
        let later = start + LASTS / 2;
        let both = BTreeMap::from([(vm, BTreeSet::from([flood, spoof]))]);
        assert_eq!(conduct.with(said(spoof), later), both);
        assert_eq!(conduct.with(BTreeMap::new(), start + LASTS), said(spoof));
        assert_eq!(conduct.with(BTreeMap::new(), later + LASTS), BTreeMap::new());
        assert!(conduct.0.is_empty());
    }
}
