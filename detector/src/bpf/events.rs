//! What the kernel programs report.

use aya::maps::{MapData, RingBuf};
use detector_common::{event::Event, maps};
use tokio::io::{Interest, unix::AsyncFd};

use super::{BpfError, Pins, maps::open};

/// The events of all ports. Losing one loses no protection and no sighting.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

/// Events that had come by the time somebody asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub events: Vec<Event>,
    /// Records that are no event of this version.
    pub unreadable: u64,
}

/// At most so many events are handed over at a time, so that a flood does not hold up the daemon.
const BATCH_RECORDS: usize = 256;

impl Events {
    /// Takes over the ring buffer; what nobody has read yet comes first. Needs a Tokio runtime.
    pub fn open(pins: &Pins) -> Result<Self, BpfError> {
        let ring: RingBuf<MapData> = open(pins.paths(), maps::EVENTS)?;
        // SAFETY: the ring buffer owns the descriptor of its map, and keeps the same one until it
        // is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        registered.map(|ring| Self { ring }).map_err(|error| {
            let (_, cause) = error.into_parts();
            BpfError::failed("wait for events of the kernel programs")(cause)
        })
    }

    /// The next events, at least one record. Can be cancelled without losing one.
    pub async fn next(&mut self) -> Result<Batch, BpfError> {
        let mut batch = Batch::default();
        for record in self.records().await? {
            match Event::decode(&record) {
                Some(event) => batch.events.push(event),
                None => batch.unreadable += 1,
            }
        }
        Ok(batch)
    }

    /// The same as the programs wrote them, at least one.
    pub(crate) async fn records(&mut self) -> Result<Vec<Vec<u8>>, BpfError> {
        loop {
            let mut ready = self
                .ring
                .readable_mut()
                .await
                .map_err(BpfError::failed("wait for events of the kernel programs"))?;
            let (records, drained) = take(ready.get_inner_mut());
            if drained {
                ready.clear_ready();
            }
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }
}

/// Takes what is there, and says whether that was all. The readiness is cleared only after a look
/// at an empty ring: what comes later wakes us again.
fn take(ring: &mut RingBuf<MapData>) -> (Vec<Vec<u8>>, bool) {
    let mut records = Vec::new();
    while records.len() < BATCH_RECORDS {
        let Some(record) = ring.next() else { return (records, true) };
        records.push(record.to_vec());
    }
    (records, false)
}
