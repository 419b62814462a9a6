//! Verdicts that are remembered. They follow from the facts alone, so that the same facts need not be
//! evaluated again: on a quiet host a decision evaluates nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use uuid::Uuid;

use super::{Facts, Rules, Verdict};

#[derive(Debug, Default)]
pub(super) struct Memo {
    known: BTreeMap<Uuid, (Facts, Arc<Verdict>)>,
    evaluated: u64,
}

impl Rules {
    /// What the rules say of these facts.
    pub fn judge(&self, facts: Facts) -> Arc<Verdict> {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, verdict)) = memo.known.get(&facts.uuid)
            && *known == facts
        {
            return verdict.clone();
        }
        let verdict = Arc::new(self.evaluate(&facts));
        memo.evaluated += 1;
        memo.known.insert(facts.uuid, (facts, verdict.clone()));
        verdict
    }

    /// Forgets the VMs that are none of these.
    pub(in crate::decide) fn forget_others(&self, is_known: impl Fn(Uuid) -> bool) {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.known.retain(|uuid, _| is_known(*uuid));
    }

    /// How often the rules have been evaluated for a VM.
    pub fn evaluations(&self) -> u64 {
        self.memo.lock().unwrap_or_else(PoisonError::into_inner).evaluated
    }
}
