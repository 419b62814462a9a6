//! What somebody does, and which findings tell of it.

use detector::bpf::{Hook, Method};
use detector_common::maps;
use detector_tests::guest::hex;

use super::A;
use super::crime::{Crime, Deed};

pub(super) struct Case {
    pub(super) name: &'static str,
    /// Where it can be done; none is everywhere.
    pub(super) method: Option<Method>,
    pub(super) tamper: fn(&Crime<'_>) -> Deed,
    /// Which findings name what of which interface.
    pub(super) findings: &'static [(&'static str, &'static str)],
}

const fn case(
    name: &'static str,
    tamper: fn(&Crime<'_>) -> Deed,
    findings: &'static [(&'static str, &'static str)],
) -> Case {
    Case { name, method: None, tamper, findings }
}

pub(super) const CASES: &[Case] = &[
    case(
        "the guards' programs taken off",
        |crime| {
            ["tap-a", "tap-d", "stray0"].iter().for_each(|port| crime.detach(port));
            Deed::Done
        },
        &[("tap-a", "program"), ("tap-d", "program"), ("stray0", "program")],
    ),
    case(
        "the gates' programs taken off",
        |crime| {
            ["br0", "up0"].iter().for_each(|port| crime.detach(port));
            Deed::Done
        },
        &[("br0", "program"), ("up0", "program")],
    ),
    case(
        "the guards' qdiscs deleted, or links and pins where there are none",
        |crime| {
            ["tap-a", "tap-d", "stray0"].iter().for_each(|port| crime.strip(port));
            Deed::Done
        },
        &[("tap-a", "program"), ("tap-d", "program"), ("stray0", "program")],
    ),
    case(
        "the gates' qdiscs deleted, or links and pins where there are none",
        |crime| {
            ["br0", "up0"].iter().for_each(|port| crime.strip(port));
            Deed::Done
        },
        &[("br0", "program"), ("up0", "program")],
    ),
    case("a program put ahead", |crime| crime.go_ahead("tap-d"), &[("tap-d", "order")]),
    case("an XDP program", |crime| crime.xdp("tap-a"), &[("tap-a", "xdp")]),
    Case {
        name: "a pin removed",
        method: Some(Method::Tcx),
        tamper: |crime| {
            std::fs::remove_file(crime.link("tap-a", Hook::Egress)).unwrap();
            Deed::Done
        },
        findings: &[("tap-a", "pin")],
    },
    case(
        "the pins of what is learned and of the sandbox removed",
        |crime| {
            let gone =
                [maps::LEARNED, maps::ADDRESS_OWNERS, maps::DHCP_TRANSACTIONS, maps::SANDBOX];
            gone.iter().for_each(|map| crime.unpin(map));
            Deed::Done
        },
        &[("was not pinned", "pin")],
    ),
    case(
        "every pin removed",
        |crime| {
            crime.remove_pins();
            Deed::Done
        },
        &[("was removed", "pin")],
    ),
    case(
        "every address made nobody's",
        |crime| {
            crime.forget_addresses();
            Deed::Done
        },
        &[("protected addresses", "grants")],
    ),
    case(
        "the forwarding entry moved",
        |crime| {
            let words = format!("fdb replace {} dev stray0 master static", hex(A.mac));
            crime.tool("bridge", &words);
            Deed::Done
        },
        &[("tap-a", "forwarding")],
    ),
];
