//! How often changes of one VM or port are put on record: a guest whose word counts for something can go to and fro,
//! and must not push out what is on record of others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_core::model::Timestamp;
use uuid::Uuid;

/// Changes that are recorded at once…
const BURST: u32 = 30;
/// … and how often one more is. What lies between two that are recorded is left out; how it ends is not.
const REFILL: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Vm(Uuid),
    Port((u32, u32)),
}

#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<Whose, (u32, Timestamp)>);

impl Pace {
    /// Whether one more is recorded now.
    pub(super) fn may(&mut self, whose: Whose, now: Timestamp) -> bool {
        let (left, since) = self.0.entry(whose).or_insert((BURST, now));
        let spans = now.since(*since).as_secs() / REFILL.as_secs();
        if spans > 0 {
            *left = left.saturating_add(u32::try_from(spans).unwrap_or(u32::MAX)).min(BURST);
            *since = now;
        }
        match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn forget_others<T>(
        &mut self,
        vms: &BTreeMap<Uuid, T>,
        ports: &BTreeSet<(u32, u32)>,
    ) {
        self.0.retain(|whose, _| match whose {
            Whose::Vm(uuid) => vms.contains_key(uuid),
            Whose::Port(port) => ports.contains(port),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_to_and_fro_takes_a_bounded_share() {
        let mut pace = Pace::default();
        let (vm, other) = (Whose::Vm(Uuid::from_u128(1)), Whose::Port((2, 3)));
        let recorded = (0..3600).filter(|second| pace.may(vm, Timestamp(second * 1000))).count();
        assert!((60..100).contains(&recorded), "{recorded} in an hour");
        assert!(pace.may(other, Timestamp(3_600_000)));
        pace.forget_others::<()>(&BTreeMap::new(), &BTreeSet::from([(2, 3)]));
        assert_eq!(pace.0.len(), 1);
    }
}
