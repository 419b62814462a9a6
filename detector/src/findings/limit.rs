//! How often people are told of one and the same finding.

use std::{collections::BTreeMap, time::Duration};

use detector_core::model::{FindingKey, Timestamp};

/// How many changes of one finding are told at once…
const BURST: u32 = 6;
/// … and how often one more is.
const REFILL: Duration = Duration::from_secs(30);
/// Findings that are remembered; each is forgotten once it has been quiet long enough.
const KEYS: usize = 4096;

/// A token bucket for each finding.
#[derive(Debug, Default)]
pub(super) struct Limit {
    buckets: BTreeMap<FindingKey, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    refilled: Timestamp,
}

impl Limit {
    /// Takes a token, or says when there will be one.
    pub(super) fn take(&mut self, key: &FindingKey, now: Timestamp) -> Result<(), Timestamp> {
        if self.buckets.len() >= KEYS && !self.buckets.contains_key(key) {
            self.buckets.retain(|_, bucket| !bucket.full(now));
            if self.buckets.len() >= KEYS {
                return Err(now + REFILL);
            }
        }
        let bucket =
            self.buckets.entry(key.clone()).or_insert(Bucket { tokens: BURST, refilled: now });
        bucket.refill(now);
        match bucket.tokens.checked_sub(1) {
            Some(tokens) => {
                bucket.tokens = tokens;
                Ok(())
            }
            None => Err(bucket.refilled + REFILL),
        }
    }
}

impl Bucket {
    fn refill(&mut self, now: Timestamp) {
        let spans = now.since(self.refilled).as_millis() / REFILL.as_millis();
        let spans = u32::try_from(spans).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(spans).min(BURST);
        self.refilled = if self.tokens == BURST { now } else { self.refilled + REFILL * spans };
    }

    fn full(&self, now: Timestamp) -> bool {
        now.since(self.refilled) >= REFILL * (BURST - self.tokens)
    }
}
