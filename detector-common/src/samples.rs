//! Frames for the tests, built from the outside in: a header takes its payload.

use crate::addr::Address;

pub(crate) const MAC_A: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0a];
pub(crate) const MAC_B: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0b];
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];
pub(crate) const IP_A: [u8; 4] = [192, 0, 2, 7];
pub(crate) const IP_B: [u8; 4] = [192, 0, 2, 8];
pub(crate) const ANY: [u8; 4] = [0; 4];
pub(crate) const IP6_A: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa];
pub(crate) const IP6_B: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb];
/// The link-local address of [`MAC_A`].
pub(crate) const LOCAL_A: [u8; 16] =
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 0x0a];
pub(crate) const LOCAL_B: [u8; 16] =
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 0x0b];
pub(crate) const ANY6: [u8; 16] = [0; 16];
pub(crate) const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

pub(crate) fn mapped(v4: [u8; 4]) -> Address {
    Address::mapped(v4)
}

pub(crate) fn v6(bytes: [u8; 16]) -> Address {
    Address::from_bytes(bytes)
}

/// An Ethernet frame from `from`, with `tags` as pairs of tag type and priority-and-VLAN.
pub(crate) fn ethernet(
    to: [u8; 6],
    from: [u8; 6],
    tags: &[(u16, u16)],
    ethertype: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for (kind, tci) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An untagged frame from [`MAC_A`] to [`MAC_B`].
pub(crate) fn from_a(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(MAC_B, MAC_A, &[], ethertype, payload)
}

pub(crate) fn arp(operation: u16, sender: [u8; 6], address: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender);
    packet.extend(address);
    packet.extend([0; 6]);
    packet.extend(IP_B);
    packet
}

/// An IPv4 header without options before `payload`.
pub(crate) fn ipv4(source: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_fragment(source, protocol, 0, payload)
}

/// The same with the field of fragment flags and offset.
pub(crate) fn ipv4_fragment(
    source: [u8; 4],
    protocol: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(IP_B);
    packet.extend(payload);
    packet
}

pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = from.to_be_bytes().to_vec();
    datagram.extend(to.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// The part of a DHCPv4 message that is read, and a little more.
pub(crate) fn dhcp(operation: u8, client: [u8; 6]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0];
    message.resize(28, 0);
    message.extend(client);
    message.resize(240, 0);
    message
}

pub(crate) fn ipv6(source: [u8; 16], next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(source);
    packet.extend(ALL_NODES);
    packet.extend(payload);
    packet
}

/// An extension header of `8 * (units + 1)` bytes before `payload`.
pub(crate) fn extension(next: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, units];
    header.resize(8 * (usize::from(units) + 1), 0);
    header.extend(payload);
    header
}

/// A fragment header before `payload`; `offset` in units of eight bytes.
pub(crate) fn fragment(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend([0, 0, 0, 1]);
    header.extend(payload);
    header
}

/// An ICMPv6 message: four bytes, then `body`.
pub(crate) fn icmpv6(kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(body);
    message
}

/// A Neighbour Discovery message with a target: 135 solicitation, 136 advertisement.
pub(crate) fn neighbour(kind: u8, target: [u8; 16], options: &[Vec<u8>]) -> Vec<u8> {
    icmpv6(kind, 0, &[&[0; 4], &target[..], &options.concat()].concat())
}

/// A link-layer address option: 1 source, 2 target.
pub(crate) fn link_layer(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1], &mac[..]].concat()
}

/// A Neighbour Discovery option of `8 * units` bytes that holds no address.
pub(crate) fn option(kind: u8, units: u8) -> Vec<u8> {
    let mut option = vec![kind, units];
    option.resize((8 * usize::from(units)).max(8), 0);
    option
}
