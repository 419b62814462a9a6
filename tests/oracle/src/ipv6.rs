//! IPv6, its extension headers, and Neighbour Discovery.

use std::net::{IpAddr, Ipv6Addr};

use detector_common::reason::Reason;
use etherparse::err::ip_auth::{HeaderError, HeaderSliceError};
use etherparse::{
    IpAuthHeaderSlice, IpNumber, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
    UdpHeaderSlice,
};

use crate::{Arrival, Said};

/// Bounds of what is read: extension headers and where the last may begin, the options of one message,
/// and where any header may begin.
const MAX_HEADERS: usize = 4;
const LAST_EXTENSION: usize = 320;
const MAX_OPTIONS: usize = 4;
const LAST_HEADER: usize = 511;

/// Hop-by-hop, routing, destination options, mobility, HIP, Shim6.
const COMMON_FORM: [u8; 6] = [0, 43, 60, 135, 139, 140];

/// What the frame carries behind all extension headers.
struct Upper {
    kind: IpNumber,
    at: usize,
    end: usize,
    fragmented: bool,
    hop_limit: u8,
    nobody: bool,
}

impl Upper {
    fn too_short(&self) -> Reason {
        if self.fragmented { Reason::Ipv6Fragment } else { Reason::Ipv6Malformed }
    }
}

pub(crate) fn read(said: &mut Said, arrival: &Arrival, at: usize) {
    let frame = &arrival.bytes[..];
    if frame.len() < at + 40 {
        return said.breaks(Reason::Truncated);
    }
    let Ok(header) = Ipv6HeaderSlice::from_slice(&frame[at..]) else {
        return said.breaks(Reason::Ipv6Malformed);
    };
    let end = at + 40 + usize::from(header.payload_length());
    if end > frame.len() {
        return said.breaks(Reason::Ipv6Malformed);
    }
    let source = header.source_addr();
    let nobody = source.is_unspecified();
    if !nobody {
        said.source = Some((IpAddr::V6(source), Reason::Ipv6Source));
    }
    if source.is_multicast() || source.is_loopback() || source.to_ipv4_mapped().is_some() {
        said.breaks(Reason::Ipv6Source);
    }
    let mut upper = Upper {
        kind: header.next_header(),
        at: at + 40,
        end,
        fragmented: false,
        hop_limit: header.hop_limit(),
        nobody,
    };
    match walk(frame, &mut upper) {
        Err(reason) => said.breaks(reason),
        // A later fragment has no more to say, and nobody's cannot belong to anything.
        Ok(false) => {
            if nobody {
                said.breaks(Reason::Ipv6Source);
            }
        }
        Ok(true) => match upper.kind {
            IpNumber::IPV6_ICMP => icmp(said, frame, &upper),
            _ if nobody => said.breaks(Reason::Ipv6Source),
            IpNumber::UDP => udp(said, arrival, &upper),
            IpNumber::TCP if upper.fragmented && upper.at + 20 > end => {
                said.breaks(Reason::Ipv6Fragment);
            }
            IpNumber::VRRP => said.plays(Reason::VrrpRole),
            IpNumber::PIM => said.plays(Reason::RouterRole),
            _ => {}
        },
    }
}

/// Goes past the extension headers; false at a fragment that is not the first.
fn walk(frame: &[u8], upper: &mut Upper) -> Result<bool, Reason> {
    let mut headers = 0;
    loop {
        let is_extension = COMMON_FORM.contains(&upper.kind.0)
            || matches!(upper.kind, IpNumber::AUTHENTICATION_HEADER)
            || matches!(upper.kind, IpNumber::IPV6_FRAGMENTATION_HEADER);
        if !is_extension {
            return Ok(true);
        }
        if headers == MAX_HEADERS || upper.at > LAST_EXTENSION {
            return Err(Reason::Ipv6HeaderChain);
        }
        headers += 1;
        let rest = &frame[upper.at..upper.end];
        let (next, length) = match upper.kind {
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let header =
                    Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| upper.too_short())?;
                // An atomic fragment is a whole packet (RFC 6946).
                upper.fragmented |= header.is_fragmenting_payload();
                if header.fragment_offset().value() != 0 {
                    return Ok(false);
                }
                (header.next_header(), 8)
            }
            IpNumber::AUTHENTICATION_HEADER => match IpAuthHeaderSlice::from_slice(rest) {
                Ok(header) => (header.next_header(), header.slice().len()),
                Err(HeaderSliceError::Content(HeaderError::ZeroPayloadLen)) => {
                    return Err(Reason::Ipv6Malformed);
                }
                Err(HeaderSliceError::Len(_)) if rest.len() >= 8 && rest[1] == 0 => {
                    return Err(Reason::Ipv6Malformed);
                }
                Err(HeaderSliceError::Len(_)) => return Err(upper.too_short()),
            },
            _ => {
                let header =
                    Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| upper.too_short())?;
                (header.next_header(), header.slice().len())
            }
        };
        (upper.kind, upper.at) = (next, upper.at + length);
    }
}

fn udp(said: &mut Said, arrival: &Arrival, upper: &Upper) {
    let Ok(header) = UdpHeaderSlice::from_slice(&arrival.bytes[upper.at..upper.end]) else {
        return said.breaks(upper.too_short());
    };
    if upper.at > LAST_HEADER {
        return said.breaks(Reason::Truncated);
    }
    let message = &arrival.bytes[upper.at + 8..upper.end];
    match header.destination_port() {
        546 => said.plays(Reason::DhcpServerRole),
        547 if message.len() < 4 || arrival.in_segments => said.breaks(Reason::DhcpMalformed),
        547 if upper.at + 8 > LAST_HEADER => said.breaks(Reason::Truncated),
        // Advertise, reply, reconfigure, relay-reply.
        547 if matches!(message[0], 2 | 7 | 10 | 13) => said.plays(Reason::DhcpServerRole),
        _ => {}
    }
}

fn icmp(said: &mut Said, frame: &[u8], upper: &Upper) {
    let message = &frame[upper.at..upper.end];
    if message.len() < 4 {
        return said.breaks(upper.too_short());
    }
    if upper.at > LAST_HEADER {
        return said.breaks(Reason::Truncated);
    }
    let kind = message[0];
    // Reports and leaves of groups, router solicitation, duplicate address detection.
    if upper.nobody && !matches!(kind, 131 | 132 | 143 | 133 | 135) {
        said.breaks(Reason::Ipv6Source);
    }
    // Group queries, router advertisement, redirect, multicast router advertisement and termination.
    if matches!(kind, 130 | 134 | 137 | 151 | 153) {
        said.plays(Reason::RouterRole);
    }
    if !(133..=137).contains(&kind) {
        return;
    }

    if upper.fragmented {
        said.breaks(Reason::NdFragmented);
    }
    if upper.hop_limit != 255 {
        said.breaks(Reason::NdHopLimit);
    }
    if message[1] != 0 {
        said.breaks(Reason::NdMalformed);
    }
    let options = match kind {
        133 => 8,
        135 | 136 => {
            if message.len() < 24 {
                return said.breaks(Reason::NdMalformed);
            }
            let mut target = [0; 16];
            target.copy_from_slice(&message[8..24]);
            let target = Ipv6Addr::from(target);
            if target.is_unspecified()
                || target.is_multicast()
                || target.is_loopback()
                || target.to_ipv4_mapped().is_some()
            {
                said.breaks(Reason::NdMalformed);
            }
            // A solicitation asks for another's, unless nobody sends it.
            if kind == 136 || upper.nobody {
                said.target = Some(target);
            }
            24
        }
        _ => return,
    };
    read_options(said, frame, upper.at + options, upper.end);
}

/// Each link-layer address must be the sender's.
fn read_options(said: &mut Said, frame: &[u8], from: usize, end: usize) {
    let mut at = from;
    for _ in 0..MAX_OPTIONS {
        if at == end {
            return;
        }
        if at + 8 > end {
            return said.breaks(Reason::NdMalformed);
        }
        if at > LAST_HEADER {
            return said.breaks(Reason::Truncated);
        }
        let (kind, length) = (frame[at], usize::from(frame[at + 1]) * 8);
        if length == 0 {
            return said.breaks(Reason::NdMalformed);
        }
        if matches!(kind, 1 | 2) {
            said.names(&frame[at + 2..at + 8], Reason::NdLinkLayer);
            if length != 8 {
                said.breaks(Reason::NdLinkLayer);
            }
        }
        at += length;
    }
    if at != end {
        said.breaks(Reason::NdMalformed);
    }
}
