//! The frames that a lab's guest sends: numbered, and each telling how many frames the guest has
//! sent in all, so that whoever watches the wire can tell that none was lost.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A MAC address as on the wire.
pub type Mac = [u8; 6];

/// UDP port that beats are sent to.
pub const PORT: u16 = 4242;
/// How many markers end the first phase.
pub const MARKERS: u64 = 3;

/// Bytes of a beat's frame.
pub const LEN: usize = ETHERNET + IPV4 + UDP + PAYLOAD;
/// The same over IPv6.
pub const LEN6: usize = ETHERNET + IPV6 + UDP + PAYLOAD;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const PAYLOAD: usize = 24;
const MAGIC: [u8; 7] = *b"detbeat";

/// What one frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    pub phase: Phase,
    /// Counts from 0 for each source MAC.
    pub seq: u64,
    /// Frames of every kind that the guest had sent before this one, from the first on. Exact when
    /// nothing was on its way: in a marker.
    pub total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// From the moment that the link is up.
    First = b'f',
    /// The last frames of the first phase, each sent when nothing else is on its way.
    Marker = b'm',
    /// Until the guest ends.
    Stream = b's',
    /// Sent under a MAC that is not the guest's own.
    Foreign = b'x',
}

impl Beat {
    /// The broadcast frame that carries this beat.
    pub fn frame(&self, mac: Mac, source: Ipv4Addr) -> [u8; LEN] {
        let mut frame = [0; LEN];
        let built =
            udp((mac, source, PORT), ([0xff; 6], Ipv4Addr::BROADCAST, PORT), &self.payload());
        frame.copy_from_slice(&built);
        frame
    }

    /// The frame to all nodes that carries this beat over IPv6.
    pub fn frame6(&self, mac: Mac, source: Ipv6Addr) -> [u8; LEN6] {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let mut frame = [0; LEN6];
        frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
        frame[6..12].copy_from_slice(&mac);
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);

        let length = ((UDP + PAYLOAD) as u16).to_be_bytes();
        let ip = &mut frame[ETHERNET..];
        ip[0] = 0x60;
        ip[4..6].copy_from_slice(&length);
        ip[6] = 17;
        ip[7] = 64;
        ip[8..24].copy_from_slice(&source.octets());
        ip[24..40].copy_from_slice(&ALL_NODES.octets());
        let udp = &mut ip[IPV6..];
        udp[0..2].copy_from_slice(&PORT.to_be_bytes());
        udp[2..4].copy_from_slice(&PORT.to_be_bytes());
        udp[4..6].copy_from_slice(&length);
        udp[UDP..].copy_from_slice(&self.payload());

        // Over IPv6 there has to be one: of both addresses, length, protocol and datagram.
        let pseudo = [&ip[8..IPV6], &[0, 0], &length, &[0, 0, 0, 17], &ip[IPV6..]].concat();
        let sum = match checksum(&pseudo) {
            0 => 0xffff,
            sum => sum,
        };
        ip[IPV6 + 6..IPV6 + 8].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// What the frame carries.
    pub fn payload(&self) -> [u8; PAYLOAD] {
        let mut payload = [0; PAYLOAD];
        payload[..7].copy_from_slice(&MAGIC);
        payload[7] = self.phase as u8;
        payload[8..16].copy_from_slice(&self.seq.to_be_bytes());
        payload[16..24].copy_from_slice(&self.total.to_be_bytes());
        payload
    }

    /// The beat in a frame, if it is one.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let header = match frame.get(12..14)? {
            [0x08, 0x00] => IPV4,
            [0x86, 0xdd] => IPV6,
            _ => return None,
        };
        let start = ETHERNET + header + UDP;
        let payload = frame.get(start..start + PAYLOAD)?;
        if payload[..7] != MAGIC {
            return None;
        }
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&payload[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Some(Self { phase: Phase::parse(payload[7])?, seq: number(8), total: number(16) })
    }
}

impl Phase {
    fn parse(byte: u8) -> Option<Self> {
        [Self::First, Self::Marker, Self::Stream, Self::Foreign]
            .into_iter()
            .find(|phase| *phase as u8 == byte)
    }
}

/// A frame with a UDP datagram in it, from one MAC, address and port to another.
pub fn udp(from: (Mac, Ipv4Addr, u16), to: (Mac, Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + IPV4 + UDP];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&from.0);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);

    let ip = &mut frame[ETHERNET..];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((IPV4 + UDP + payload.len()) as u16).to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&from.1.octets());
    ip[16..20].copy_from_slice(&to.1.octets());
    let sum = checksum(&ip[..IPV4]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    // A UDP checksum of zero means that there is none.
    let udp = &mut ip[IPV4..];
    udp[0..2].copy_from_slice(&from.2.to_be_bytes());
    udp[2..4].copy_from_slice(&to.2.to_be_bytes());
    udp[4..6].copy_from_slice(&((UDP + payload.len()) as u16).to_be_bytes());
    frame.extend(payload);
    frame
}

fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_survives_its_frame() {
        for phase in [Phase::First, Phase::Marker, Phase::Stream, Phase::Foreign] {
            let beat = Beat { phase, seq: 0x0102_0304_0506_0708, total: u64::MAX };
            let frame = beat.frame([2, 0, 0, 0, 0, 1], Ipv4Addr::new(192, 0, 2, 7));
            assert_eq!(Beat::parse(&frame), Some(beat));
            assert_eq!(checksum(&frame[14..34]), 0, "the header sums up to nothing");
            for cut in 0..LEN {
                assert_eq!(Beat::parse(&frame[..cut]), None);
            }
            let frame = beat.frame6([2, 0, 0, 0, 0, 1], "2001:db8::7".parse().unwrap());
            assert_eq!(Beat::parse(&frame), Some(beat));
            for cut in 0..LEN6 {
                assert_eq!(Beat::parse(&frame[..cut]), None);
            }
        }
    }
}
