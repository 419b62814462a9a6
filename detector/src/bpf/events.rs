//! What the kernel programs report.

use std::{io, os::fd::OwnedFd};

use detector_common::{event::EventRecord, maps};
use tokio::io::{Interest, unix::AsyncFd};

use super::ring::Ring;

/// The events of all ports. Losing one loses no protection and no sighting.
#[derive(Debug)]
pub struct Events {
    ring: AsyncFd<Ring>,
}

/// Events that had come by the time somebody asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub events: Vec<EventRecord>,
    /// Records that are no event of this version.
    pub unreadable: u64,
}

/// At most so many records are handed over at a time, so that a flood does not hold up the daemon.
const BATCH_RECORDS: usize = 256;

impl Events {
    /// Takes over the ring buffer; what nobody has read yet comes first. Needs a Tokio runtime, and no privilege.
    pub fn of(map: OwnedFd) -> io::Result<Self> {
        let ring = Ring::open(map, maps::EVENT_BYTES as usize)?;
        // SAFETY: the ring buffer owns its descriptor, and keeps the same one until it is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self { ring: registered.map_err(|error| error.into_parts().1)? })
    }

    /// The next events, at least one record. Can be cancelled without losing one.
    pub async fn next(&mut self) -> io::Result<Batch> {
        loop {
            let mut ready = self.ring.readable_mut().await?;
            let mut batch = Batch::default();
            let drained = take(ready.get_inner_mut(), &mut batch);
            // Only after a look at an empty ring: what comes later wakes us again.
            if drained {
                ready.clear_ready();
            }
            if batch != Batch::default() {
                return Ok(batch);
            }
        }
    }
}

/// Takes what is there, and says whether that was all.
fn take(ring: &mut Ring, batch: &mut Batch) -> bool {
    for _ in 0..BATCH_RECORDS {
        match ring.next(EventRecord::decode) {
            Some(Some(report)) => batch.events.push(report),
            Some(None) => batch.unreadable += 1,
            None => return true,
        }
    }
    false
}
