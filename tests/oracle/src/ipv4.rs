//! IPv4, and of what it carries that which plays a role.

use std::net::{IpAddr, Ipv4Addr};

use detector_common::reason::Reason;
use etherparse::{IpNumber, Ipv4HeaderSlice, UdpHeaderSlice};

use crate::{Arrival, Said, options::renewed};

/// Addresses that a frame may come from: neither "this" network, nor loopback, multicast, reserved.
pub(crate) fn is_somebodys(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    matches!(first, 1..=126 | 128..=223)
}

pub(crate) fn read(said: &mut Said, arrival: &Arrival, at: usize) {
    let packet = &arrival.bytes[at..];
    if packet.len() < 20 {
        return said.breaks(Reason::Truncated);
    }
    let Ok(header) = Ipv4HeaderSlice::from_slice(packet) else {
        return said.breaks(Reason::Ipv4Malformed);
    };
    let (length, total) = (header.slice().len(), usize::from(header.total_len()));
    if total < length || total > packet.len() {
        return said.breaks(Reason::Ipv4Malformed);
    }
    if !adds_up(header.slice()) {
        said.breaks(Reason::Ipv4Malformed);
    }
    let source = header.source_addr();
    if !source.is_unspecified() {
        said.source = Some((IpAddr::V4(source), Reason::Ipv4Source));
        if !is_somebodys(source) {
            said.breaks(Reason::Ipv4Source);
        }
    }

    let first = header.fragments_offset().value() == 0;
    let payload = &packet[length..total];
    let part = Part { fragmented: header.is_fragmenting_payload(), payload };
    let is_discover = match header.protocol() {
        // It is the number that counts, in every fragment.
        IpNumber::VRRP => {
            said.plays(Reason::VrrpRole);
            false
        }
        IpNumber::PIM => {
            said.plays(Reason::RouterRole);
            false
        }
        _ if !first => false,
        IpNumber::UDP => udp(said, arrival, part),
        // Redirects, and router advertisements (RFC 1256).
        IpNumber::ICMP => control(said, part, |kind| matches!(kind, 5 | 9)),
        // All but reports and leaves: queries, and what routers tell each other.
        IpNumber::IGMP => control(said, part, |kind| !matches!(kind, 0x12 | 0x16 | 0x17 | 0x22)),
        _ => false,
    };
    if source.is_unspecified() && !is_discover {
        said.breaks(Reason::Ipv4Source);
    }
}

/// RFC 1071: with the checksum in it, all words of a header add up to ones.
fn adds_up(header: &[u8]) -> bool {
    let words = header.chunks(2).map(|pair| u32::from(pair[0]) * 256 + u32::from(pair[1]));
    let sum = words.fold(0, |sum, word| {
        let sum = sum + word;
        if sum > 0xffff { sum - 0xffff } else { sum }
    });
    sum == 0xffff
}

/// What one packet has of its datagram.
#[derive(Clone, Copy)]
struct Part<'a> {
    fragmented: bool,
    payload: &'a [u8],
}

impl Part<'_> {
    fn too_short(&self) -> Reason {
        if self.fragmented { Reason::Ipv4Fragment } else { Reason::Ipv4Malformed }
    }
}

/// ICMP or IGMP; never a frame that needs no source.
fn control(said: &mut Said, part: Part<'_>, of_routers: impl Fn(u8) -> bool) -> bool {
    if part.payload.len() < 8 {
        said.breaks(part.too_short());
    } else if of_routers(part.payload[0]) {
        said.plays(Reason::RouterRole);
    }
    false
}

/// Whether it is what a client sends that has no address yet.
fn udp(said: &mut Said, arrival: &Arrival, part: Part<'_>) -> bool {
    let Ok(header) = UdpHeaderSlice::from_slice(part.payload) else {
        said.breaks(part.too_short());
        return false;
    };
    let message = &part.payload[8..];
    match header.destination_port() {
        68 => said.plays(Reason::DhcpServerRole),
        67 => {
            if part.fragmented {
                said.breaks(Reason::Ipv4Fragment);
            }
            if message.len() < 34 || arrival.in_segments {
                said.breaks(Reason::DhcpMalformed);
            } else if message[0] != 1 {
                said.plays(Reason::DhcpServerRole);
            } else if message[1..3] != [1, 6] {
                said.breaks(Reason::DhcpMalformed);
            } else if message[28..34] != said.mac {
                said.breaks(Reason::DhcpClientMac);
            } else {
                let length = usize::from(header.length());
                said.renews = part.payload.get(8..length).and_then(renewed);
            }
        }
        _ => {}
    }
    (header.source_port(), header.destination_port()) == (68, 67)
}
