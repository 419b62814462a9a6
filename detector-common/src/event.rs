//! What the kernel tells the daemon through the ring buffer.

use crate::{claim::ClaimRecord, layout};

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
    pub pad: u8,
    /// Events of this port that its budget held back since the last one.
    pub held: u32,
    pub claim: ClaimRecord,
}

layout!(
    Event, size 56,
    at @ 0, ifindex @ 8, instance @ 12, port @ 16, dropped @ 18, held @ 20, claim @ 24,
);

impl Event {
    /// Reads an event from a ring buffer record; `None` for a record of another size.
    pub fn decode(record: &[u8]) -> Option<Self> {
        if record.len() != size_of::<Self>() {
            return None;
        }
        // SAFETY: the length is the type's, every bit pattern is valid (MapData), and the read is
        // unaligned.
        Some(unsafe { record.as_ptr().cast::<Self>().read_unaligned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{claim::Family, reason::Reason};

    proptest! {
        /// Whatever a record holds, it is an event or none, and each field has a meaning or is known to
        /// have none.
        #[test]
        fn any_bytes(record in prop::collection::vec(any::<u8>(), 0..120)) {
            let event = Event::decode(&record);
            prop_assert_eq!(event.is_some(), record.len() == size_of::<Event>());
            if let Some(event) = event {
                let reason = Reason::from_code(event.claim.reason);
                prop_assert!(reason.is_none_or(|reason| reason as u8 == event.claim.reason));
                prop_assert!(Family::from_code(event.claim.family) as u8 <= 6);
                let text = format!("{event:?}");
                prop_assert!(text.is_ascii());
            }
        }
    }

    #[test]
    fn only_a_whole_record_is_an_event() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..bytes.len() {
            let event = Event::decode(&bytes[..length]);
            assert_eq!(event.is_some(), length == size_of::<Event>(), "{length} bytes");
        }
        let event = Event::decode(&bytes[1..=size_of::<Event>()]).unwrap();
        assert_eq!(event.ifindex, u32::from_le_bytes([9, 10, 11, 12]));
        assert_eq!(event.claim.reason, 1 + 24 + 27);
    }
}
