//! Frames to begin with.

use detector_common::samples::{
    ALL_NODES, FRAGMENT, ICMPV6, IP6_A, LOCAL_A, MAC_A, UDP, extension, fragment, from_a, ipv6,
    link_layer, neighbour, table, udp,
};

/// The table of the unit tests, and frames that lead the parser further in.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut frames: Vec<_> = table().into_iter().map(|(name, frame, _)| (name, frame)).collect();
    let options = [link_layer(2, MAC_A), link_layer(1, MAC_A)];
    let advertisement = neighbour(136, IP6_A, &options);
    let query = udp(4000, 53, &[0; 12]);
    let deep = [0, 60, 43, 60, 60].iter().fold((ICMPV6, advertisement.clone()), |inner, kind| {
        (*kind, extension(inner.0, 0, &inner.1))
    });
    frames.extend([
        ("options in any order", from_a(0x86dd, &ipv6(IP6_A, ICMPV6, 255, &advertisement))),
        (
            "advertisement behind options",
            from_a(0x86dd, &ipv6(IP6_A, 60, 255, &extension(ICMPV6, 1, &advertisement))),
        ),
        ("too many headers", from_a(0x86dd, &ipv6(IP6_A, deep.0, 255, &deep.1))),
        (
            "atomic fragment",
            from_a(0x86dd, &ipv6(LOCAL_A, FRAGMENT, 64, &fragment(UDP, 0, false, &query))),
        ),
        (
            "first fragment",
            from_a(0x86dd, &ipv6(LOCAL_A, FRAGMENT, 64, &fragment(UDP, 0, true, &query))),
        ),
        (
            "first fragment, cut short",
            from_a(0x86dd, &ipv6(LOCAL_A, FRAGMENT, 64, &fragment(UDP, 0, true, &[0; 4]))),
        ),
        (
            "later fragment",
            from_a(0x86dd, &ipv6(LOCAL_A, FRAGMENT, 64, &fragment(UDP, 9, true, &query))),
        ),
        (
            "fragmented advertisement",
            from_a(0x86dd, &ipv6(IP6_A, FRAGMENT, 255, &fragment(ICMPV6, 0, true, &advertisement))),
        ),
        ("multicast source", from_a(0x86dd, &ipv6(ALL_NODES, UDP, 64, &query))),
    ]);
    frames
}
