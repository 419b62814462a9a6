//! What guests have sent is told as text that does nothing to a terminal, whatever it was.

use detector_common::{
    event::{Event, EventRecord},
    port::PortSlot,
};
use detector_core::model::{ObservedInterface, Timestamp};
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_event_is_told(record in prop::collection::vec(any::<u8>(), size_of::<Event>())) {
        let event = EventRecord::decode(&record).unwrap().event;
        let seen = Seen {
            instance: event.instance,
            claim: event.claim,
            first: Timestamp(event.at),
            last: Timestamp(u64::MAX),
            count: event.at,
        };
        let told = sighting(&seen);
        prop_assert_eq!(told.mac.len(), 17);
        prop_assert!(told.reason.is_ascii() && !told.reason.is_empty());
        let text = serde_json::to_string(&told).unwrap();
        prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{}", text);
    }

    /// A slot that something else has written is shown, not trusted.
    #[test]
    fn any_slot_is_told(bytes in prop::array::uniform32(any::<u8>()), flags in any::<u32>(), role in any::<u8>()) {
        let (v6, mask) = (bytes[..16].try_into().unwrap(), bytes[16..].try_into().unwrap());
        let slot = PortSlot {
            flags,
            role,
            mac: Mac(bytes[..6].try_into().unwrap()),
            vlan: u16::from(bytes[6]),
            v4: bytes[..4].try_into().unwrap(),
            v4_mask: bytes[4..8].try_into().unwrap(),
            v6: detector_common::addr::Address::from_bytes(v6),
            v6_mask: detector_common::addr::Address::from_bytes(mask),
            ..PortSlot::VACANT
        };
        let interface = ObservedInterface {
            slot,
            grants: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            forwarding: Default::default(),
            defended: Default::default(),
            shield: Default::default(),
            passage: None,
        };
        prop_assert!(identities(&interface).len() <= 1);
        prop_assert!(!role_name(&slot).is_empty());
        prop_assert!(state(&slot) != PortState::Unguarded);
    }
}
