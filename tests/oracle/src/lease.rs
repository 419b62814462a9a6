//! What a DHCP or DHCPv6 message says, read a second time: where it lies by etherparse, what its fields and
//! options hold by dhcproto, which of it counts by the rules that stand here. RFC 2131, RFC 2132 and RFC 8415.
//!
//! Stricter than the RFCs, on purpose, since what is not read as the client reads it must not teach:
//!
//! - a message lies in one datagram that is no fragment, and within the first 1024 bytes of its frame;
//! - one that has more options than are read, pads included, teaches nothing, nor one of whose options one
//!   does not lie within the message, or within the association that it is part of;
//! - the same option twice teaches nothing, also where RFC 3396 would join the two;
//! - the options that matter have the length that they are defined with;
//! - of the options that name routers the first of each kind counts that is not empty: of the one, four
//!   addresses (RFC 2132, section 3.5), of the other, sixteen routes up to the first that cannot be
//!   (RFC 3442);
//! - a lease has a server's identifier, and in DHCPv6 a client's too, and at most four addresses.

mod v4;
mod v6;

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeaderSlice};

use crate::Mac;

/// Bytes of a frame that are looked at.
const LOOKED_AT: usize = 1024;
const TAGS: usize = 2;

/// A message that is for or from a client, and does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The client, and the VLAN that it is on.
    pub client: (Mac, u16),
    /// Its number for the transaction.
    pub id: u32,
    pub is_v6: bool,
    pub says: Says,
    /// What a server that leases an address names as routers, in the order of the message.
    pub routers: Vec<Ipv4Addr>,
}

/// What it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// The client asks for a lease, in DHCP perhaps for that of an address.
    Asks(Option<Ipv4Addr>),
    /// The client gives addresses up, or will not have them.
    GivesUp(Vec<IpAddr>),
    /// The server leases addresses for so many seconds; for none, a lease ends.
    Leases(Vec<(IpAddr, u32)>),
    /// The server refuses what was asked for.
    Refuses,
}

/// The message in the frame. `tag` is the VLAN that its metadata names, 0 for none.
pub fn read(frame: &[u8], tag: u16) -> Option<Message> {
    let header = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    let Link { vlan, kind, packet } = link(frame, tag)?;
    let (is_v6, datagram) = match kind {
        0x0800 => (false, in_v4(packet)?),
        0x86dd => (true, in_v6(packet)?),
        _ => return None,
    };
    let udp = UdpHeaderSlice::from_slice(datagram).ok()?;
    let message = datagram.get(8..usize::from(udp.length()))?;
    let by_client = match (is_v6, udp.destination_port()) {
        (false, 67) | (true, 547) => true,
        (false, 68) | (true, 546) => false,
        _ => return None,
    };
    if is_v6 {
        let client = if by_client { header.source() } else { header.destination() };
        v6::read(message, (client, vlan), by_client)
    } else {
        v4::read(message, vlan, by_client)
    }
}

/// What a frame carries behind up to two tags, as far as it is looked at.
pub(crate) struct Link<'a> {
    pub(crate) vlan: u16,
    pub(crate) kind: u16,
    pub(crate) packet: &'a [u8],
}

pub(crate) fn link(frame: &[u8], tag: u16) -> Option<Link<'_>> {
    let header = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    let mut at = 14;
    let (mut kind, mut vlan) = (header.ether_type().0, tag);
    for _ in 0..TAGS {
        if !matches!(kind, 0x8100 | 0x88a8) {
            break;
        }
        let &[a, b, c, d] = frame.get(at..at + 4)? else { return None };
        let id = u16::from_be_bytes([a, b]) & 0xfff;
        vlan = if id == 0 { vlan } else { id };
        kind = u16::from_be_bytes([c, d]);
        at += 4;
    }
    let packet = &frame[at..frame.len().min(LOOKED_AT).max(at)];
    Some(Link { vlan, kind, packet })
}

fn in_v4(packet: &[u8]) -> Option<&[u8]> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let whole = !header.more_fragments() && header.fragments_offset().value() == 0;
    let header_bytes = usize::from(header.ihl()) * 4;
    let packet = packet.get(..usize::from(header.total_len()))?;
    (whole && header.protocol().0 == 17).then(|| packet.get(header_bytes..)).flatten()
}

fn in_v6(packet: &[u8]) -> Option<&[u8]> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let payload = packet.get(40..)?.get(..usize::from(header.payload_length()))?;
    (header.next_header().0 == 17).then_some(payload)
}
