//! What the kernel tells the daemon through the ring buffer.

use crate::{claim::ClaimRecord, layout};

/// How much of a frame an event carries at the most.
pub const HEAD_BYTES: usize = 128;

/// A sighting that is new, or that the budget let through again. Losing one loses no protection:
/// the verdict has been carried out, and the sighting is in its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// `jiffies64` when the verdict fell.
    pub at: u64,
    pub ifindex: u32,
    pub instance: u32,
    /// Dense number of the port.
    pub port: u16,
    /// 1 when the frame was dropped, 0 when observe mode let it go on.
    pub dropped: u8,
    /// Bytes of the frame that the record has.
    pub copied: u8,
    /// Events of this port that its budget held back since the last one.
    pub held: u32,
    pub claim: ClaimRecord,
}

layout!(
    Event, size 56,
    at @ 0, ifindex @ 8, instance @ 12, port @ 16, dropped @ 18, copied @ 19, held @ 20, claim @ 24,
);

/// An event as it is in the ring buffer, with the beginning of its frame, without a tag that the network stack
/// has moved into the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EventRecord {
    pub event: Event,
    /// As much as [`Event::copied`] says; what is behind that is anything.
    pub head: [u8; HEAD_BYTES],
}

layout!(EventRecord, size 184, event @ 0, head @ 56);

impl EventRecord {
    /// Reads a record of the ring buffer; `None` for one of another size. Programs of an earlier release send the event
    /// alone.
    pub fn decode(record: &[u8]) -> Option<Self> {
        let size = record.len();
        if size != size_of::<Event>() && size != size_of::<Self>() {
            return None;
        }
        let mut whole = [0; size_of::<Self>()];
        whole.get_mut(..size)?.copy_from_slice(record);
        // SAFETY: the sizes are equal, and every bit pattern is a report (MapData).
        let mut report: Self = unsafe { core::mem::transmute(whole) };
        if size == size_of::<Event>() {
            report.event.copied = 0;
        }
        Some(report)
    }

    /// The beginning of the frame, as far as it was copied.
    pub fn head(&self) -> &[u8] {
        self.head.get(..usize::from(self.event.copied)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{claim::Family, reason::Reason};

    const SIZES: [usize; 2] = [size_of::<Event>(), size_of::<EventRecord>()];

    proptest! {
        /// Whatever a record holds, it is an event or none, and each field has a meaning or is known to
        /// have none.
        #[test]
        fn any_bytes(record in prop::collection::vec(any::<u8>(), 0..240)) {
            let report = EventRecord::decode(&record);
            prop_assert_eq!(report.is_some(), SIZES.contains(&record.len()));
            if let Some(report) = report {
                let reason = Reason::from_code(report.event.claim.reason);
                prop_assert!(reason.is_none_or(|reason| reason as u8 == report.event.claim.reason));
                prop_assert!(Family::from_code(report.event.claim.family) as u8 <= 6);
                prop_assert!(report.head().len() <= HEAD_BYTES);
                let text = format!("{report:?}");
                prop_assert!(text.is_ascii());
            }
        }
    }

    #[test]
    fn only_a_whole_record_is_an_event() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..bytes.len() {
            let report = EventRecord::decode(&bytes[..length]);
            assert_eq!(report.is_some(), SIZES.contains(&length), "{length} bytes");
        }
        let report = EventRecord::decode(&bytes[1..=size_of::<EventRecord>()]).unwrap();
        assert_eq!(report.event.ifindex, u32::from_le_bytes([9, 10, 11, 12]));
        assert_eq!(report.event.claim.reason, 1 + 24 + 27);
        assert_eq!(report.head(), &bytes[57..57 + 20], "as much as was copied");
        let alone = EventRecord::decode(&bytes[1..=size_of::<Event>()]).unwrap();
        assert_eq!((alone.event.at, alone.head()), (report.event.at, &[][..]));
        let more = EventRecord { event: Event { copied: 255, ..report.event }, ..report };
        assert_eq!(more.head(), &[] as &[u8], "more than there is");
    }
}
