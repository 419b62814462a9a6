//! Whatever a guest sends: no panic, and nothing passes under an identity that is not the port's.

use super::*;

fn tag() -> impl Strategy<Value = MetaTag> {
    (any::<bool>(), any::<u16>()).prop_map(|(present, tci)| MetaTag { present, tci })
}

/// A well-formed frame with a few bytes changed, and cut off somewhere.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let frames: Vec<_> = table().into_iter().map(|(_, frame, _)| frame).collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(frames), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut frame, changes, end, cut)| {
            for (at, to) in changes {
                let at = at.index(frame.len());
                frame[at] = to;
            }
            if cut {
                frame.truncate(end.index(frame.len()));
            }
            frame
        },
    )
}

fn never_another(frame: &[u8], tag: MetaTag) -> Result<(), TestCaseError> {
    let listed = Listed::default().mac(MAC_B, 5, flags::V4 | flags::V6);
    let a = Station::new(Mac(MAC_A), 0);
    let b = Station::new(Mac(MAC_B), 5);
    for (flags, granted) in [(0, &[a][..]), (flags::MORE_GRANTS, &[a, b])] {
        let slot = PortSlot { flags: port_a().flags | flags, ..port_a() };
        let mut claim = Claim::default();
        if vet(Frame::new(frame), tag, &slot, &listed, &mut claim).passes() {
            prop_assert!(granted.contains(&claim.station), "{:?}", claim);
            // What the claim says is what the frame says.
            prop_assert_eq!(&claim.station.mac().0[..], &frame[6..12]);
        }
    }
    Ok(())
}

/// The short reach has no opinion of its own.
fn plain_is_whole(frame: &[u8], tag: MetaTag) -> Result<(), TestCaseError> {
    let listed = Listed::default().mac(MAC_B, 5, flags::V4 | flags::V6);
    for flags in [
        0,
        port_a().flags,
        port_a().flags | flags::MORE_GRANTS,
        port_a().flags | flags::ISOLATED,
        flags::GRANTED | flags::LEARNS,
    ] {
        let slot = PortSlot { flags, ..port_a() };
        let (mut plain, mut whole) = (Claim::default(), Claim::default());
        if let Some(reason) = vet_plain(Frame::new(frame), tag, &slot, &listed, &mut plain) {
            prop_assert_eq!(vet(Frame::new(frame), tag, &slot, &listed, &mut whole), reason);
            prop_assert_eq!(plain, whole);
        }
    }
    Ok(())
}

/// What passes at a glance passes.
fn glance_is_whole(frame: &[u8], tag: MetaTag) -> Result<(), TestCaseError> {
    let none = Listed::default();
    for flags in [exact(), exact() | flags::ISOLATED, flags::EXACT_V4 | flags::EXACT_V6] {
        let slot = PortSlot { flags, ..port_a() };
        if !tag.present && passes_at_a_glance(Frame::new(frame), &slot) {
            prop_assert_eq!(judged(&slot, &none, tag, frame), Granted);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes(frame in prop::collection::vec(any::<u8>(), 0..700), tag in tag()) {
        never_another(&frame, tag)?;
        plain_is_whole(&frame, tag)?;
        glance_is_whole(&frame, tag)?;
    }

    #[test]
    fn mutated_frames(frame in mutated(), tag in tag()) {
        never_another(&frame, tag)?;
        plain_is_whole(&frame, tag)?;
        glance_is_whole(&frame, tag)?;
    }

    /// Bytes behind what the headers say change nothing, beyond turning a cut-off frame into a whole one.
    #[test]
    fn padding(frame in mutated(), tag in tag(), padding in prop::collection::vec(any::<u8>(), 1..64)) {
        let before = judged(&port_a(), &Listed::default(), tag, &frame);
        let after = judged(&port_a(), &Listed::default(), tag, &[&frame[..], &padding].concat());
        prop_assert!(before == after || !before.passes(), "{before:?}, padded {after:?}");
    }
}
