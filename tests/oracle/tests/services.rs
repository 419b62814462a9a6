//! Whom frames in the sandbox are for and from, against the second opinion.

use std::collections::BTreeMap;
use std::net::IpAddr;

use detector_common::addr::Address;
use detector_common::frame::Frame;
use detector_common::services::{Asked, Service, other_end};
use detector_oracle::{frames, services};

const FRAMES: usize = 1_000_000;

#[test]
fn the_other_end_is_the_same_to_both() {
    let mut told = BTreeMap::<_, u32>::new();
    for (number, arrival) in frames::stream(frames::SEED).take(FRAMES).enumerate() {
        for outwards in [true, false] {
            let found = other_end(Frame::new(&arrival.bytes), outwards);
            let expect = services::other_end(&arrival.bytes, outwards);
            let key = expect.map(|(address, asked)| Service::new(mapped(address), asked));
            assert_eq!(found, key, "frame {number}, outwards {outwards}: {arrival:02x?}");
            let kind = match expect.map(|(_, asked)| asked) {
                None => "nobody",
                Some(Asked::Neighbour) => "neighbour",
                Some(Asked::Tcp(_)) => "tcp",
                Some(Asked::Udp(_)) => "udp",
                Some(Asked::Icmp(_)) => "icmp",
                Some(Asked::IcmpV6(_)) => "icmpv6",
            };
            *told.entry((kind, outwards)).or_default() += 1;
        }
    }
    println!("{told:?}");
    // Agreement on what was never asked shows nothing.
    assert_eq!(told.len(), 12);
    assert!(told.values().all(|count| *count > 500), "{told:?}");
}

fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::mapped(address.octets()),
        IpAddr::V6(address) => address.into(),
    }
}
