//! What DHCP clients and servers say, by chance: messages that dhcproto has written, about few transactions
//! and addresses, so that they often belong together; and then some of them broken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use detector_common::samples::{UDP, ethernet, ipv4, ipv6, udp};
use dhcproto::v4::{self, DhcpOption, UnknownOption};
use dhcproto::v6::{self, DhcpOptions, IAAddr, IANA, IATA, StatusCode};
use dhcproto::{Encodable, Encoder};

use crate::{Mac, dice::Dice};

pub const V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(192, 0, 2, 7),
    Ipv4Addr::new(192, 0, 2, 8),
    Ipv4Addr::new(192, 0, 2, 9),
    Ipv4Addr::new(192, 0, 2, 254),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(127, 0, 0, 1),
];
pub const V6: [Ipv6Addr; 7] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 8),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::LOCALHOST,
];
const IDS: [u32; 3] = [0x1234, 0x1235, 0x00ab_cdef];
/// Around the borders of what a test lets pass in time, and without end.
const SECONDS: [u32; 7] = [600, 100, 5, 1, 0, 86_400, u32::MAX];

/// What a client says under this MAC, on this VLAN, from its address where it has one.
pub fn client(dice: &mut Dice, mac: Mac, vlan: u16, from: Option<IpAddr>) -> Vec<u8> {
    let packet = if dice.once_in(2) {
        let source = match from {
            Some(IpAddr::V4(address)) => address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let message = v4_client(dice, mac, source);
        (0x0800, ipv4(source.octets(), UDP, &udp(68, 67, &message)))
    } else {
        let source = match from {
            Some(IpAddr::V6(address)) => address.octets(),
            _ => link_local(mac),
        };
        (0x86dd, ipv6(source, UDP, 64, &udp(546, 547, &v6_message(dice, true))))
    };
    framed(dice, [0x33, 0x33, 0, 1, 0, 2], mac, vlan, packet)
}

/// What a server says to this MAC.
pub fn server(dice: &mut Dice, to: Mac, vlan: u16, from: Mac) -> Vec<u8> {
    let packet = if dice.once_in(2) {
        let source = Ipv4Addr::new(192, 0, 2, 2).octets();
        (0x0800, ipv4(source, UDP, &udp(67, 68, &v4_server(dice, to))))
    } else {
        let source = link_local(from);
        (0x86dd, ipv6(source, UDP, 64, &udp(547, 546, &v6_message(dice, false))))
    };
    framed(dice, to, from, vlan, packet)
}

fn framed(
    dice: &mut Dice,
    to: Mac,
    from: Mac,
    vlan: u16,
    (kind, packet): (u16, Vec<u8>),
) -> Vec<u8> {
    let tags: &[(u16, u16)] = match vlan {
        0 if dice.once_in(8) => &[(0x8100, 0)],
        0 => &[],
        _ => &[(0x8100, vlan)],
    };
    let frame = ethernet(to, from, tags, kind, &packet);
    if dice.once_in(5) { dice.mutate(&frame) } else { frame }
}

/// The address that a station forms from its MAC.
pub fn link_local([a, b, c, d, e, f]: Mac) -> [u8; 16] {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

fn v4_client(dice: &mut Dice, mac: Mac, source: Ipv4Addr) -> Vec<u8> {
    use v4::MessageType::{Ack, Decline, Discover, Inform, Release, Request};

    let kinds = [Request, Request, Discover, Release, Decline, Inform, Ack];
    let kind = dice.pick(&kinds);
    let named = dice.pick(&V4);
    let current = dice.mostly(&[source, source, named, Ipv4Addr::UNSPECIFIED]);
    let mut message = message(dice, mac, current, Ipv4Addr::UNSPECIFIED);
    message.set_opcode(v4::Opcode::BootRequest);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    if !dice.once_in(if source.is_unspecified() { 4 } else { 1 }) || dice.once_in(6) {
        options.insert(DhcpOption::RequestedIpAddress(dice.pick(&V4)));
    }
    if dice.once_in(6) {
        options.insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(192, 0, 2, 2)));
    }
    written(dice, &message)
}

fn v4_server(dice: &mut Dice, client: Mac) -> Vec<u8> {
    use v4::MessageType::{Ack, Nak, Offer, Request};

    let current = dice.mostly(&[Ipv4Addr::UNSPECIFIED, V4[0]]);
    let leased = dice.pick(&V4);
    let yours = dice.mostly(&[leased, leased, Ipv4Addr::UNSPECIFIED]);
    let mut message = message(dice, client, current, yours);
    message.set_opcode(v4::Opcode::BootReply);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(dice.mostly(&[Ack, Nak, Offer, Request])));
    if !dice.once_in(12) {
        options.insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(192, 0, 2, 2)));
    }
    if !dice.once_in(12) {
        options.insert(DhcpOption::AddressLeaseTime(dice.pick(&SECONDS)));
    }
    options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    if !dice.once_in(3) {
        let routers = (0..dice.pick(&[1, 1, 2, 4, 5])).map(|_| router(dice));
        options.insert(DhcpOption::Router(routers.collect()));
    }
    if dice.once_in(4) {
        let routes = routes(dice);
        options.insert(DhcpOption::Unknown(UnknownOption::new(121.into(), routes)));
    }
    written(dice, &message)
}

/// One of few, or of more than are protected at a time.
fn router(dice: &mut Dice) -> Ipv4Addr {
    match dice.roll(4) {
        0 => dice.pick(&V4),
        1 => Ipv4Addr::new(192, 0, 2, 100 + dice.roll(24) as u8),
        _ => Ipv4Addr::new(192, 0, 2, 254),
    }
}

/// Routes as RFC 3442 has them, now and then with one that cannot be.
fn routes(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..dice.pick(&[1, 1, 2, 3, 17]) {
        let width = dice.mostly(&[0, 8, 20, 24, 32, 33]);
        bytes.push(width);
        bytes.extend([10, 1, 2, 3, 4].iter().take(usize::from(width).div_ceil(8)));
        bytes.extend(router(dice).octets());
    }
    bytes.truncate(bytes.len() - dice.mostly(&[0, 0, 0, 1]));
    bytes
}

/// What a router says of itself to everybody, and what is almost that.
pub fn advertisement(dice: &mut Dice, vlan: u16, from: Mac) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    let [high, low] = dice.pick(&[1800_u16, 0, 9000, 65_535]).to_be_bytes();
    let code = dice.mostly(&[0, 0, 0, 1]);
    let mut message = vec![dice.mostly(&[134, 134, 134, 133]), code, 0, 0, 64, 0, high, low];
    message.resize(dice.mostly(&[16, 24, 15]), 0);
    let own = link_local(from);
    let any = dice.pick(&V6).octets();
    let source = dice.mostly(&[[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], own, any]);
    let hops = dice.mostly(&[255, 255, 64]);
    let packet = ipv6(source, ICMPV6, hops, &message);
    framed(dice, [0x33, 0x33, 0, 0, 0, 1], from, vlan, (0x86dd, packet))
}

fn message(dice: &mut Dice, mac: Mac, current: Ipv4Addr, yours: Ipv4Addr) -> v4::Message {
    let nobody = Ipv4Addr::UNSPECIFIED;
    let id = dice.pick(&IDS);
    let mut message = v4::Message::new_with_id(id, current, yours, nobody, nobody, &mac);
    if dice.once_in(4) {
        message.opts_mut().insert(DhcpOption::Hostname("a.guest".to_owned()));
    }
    message
}

/// The message as it is sent: sometimes with some of its options in the fields for names (RFC 2132,
/// section 9.3), or with one that comes twice.
fn written(dice: &mut Dice, message: &v4::Message) -> Vec<u8> {
    let mut bytes = encoded(message);
    let options = bytes.split_off(240);
    let mut options = each(&options);
    if dice.once_in(10) && !options.is_empty() {
        options.push(options[dice.roll(options.len())].clone());
    }
    if !dice.once_in(4) {
        bytes.extend(options.concat());
        bytes.extend(vec![0; dice.roll(4)]);
        if !dice.once_in(5) {
            bytes.push(255);
        }
        return bytes;
    }
    let said = dice.mostly(&[3, 1, 2, 0, 7]);
    bytes.extend([52, 1, said]);
    let mut fields = [Vec::new(), Vec::new(), Vec::new()];
    for option in options {
        // Beside the option itself there has to be an end.
        const ROOM: [usize; 3] = [usize::MAX, 127, 63];
        let wanted = dice.roll(3);
        let fits = fields[wanted].len() + option.len() <= ROOM[wanted];
        fields[if fits { wanted } else { 0 }].extend(option);
    }
    let [here, file, name] = fields;
    bytes.extend(here);
    bytes.push(255);
    for (from, field) in [(108, file), (44, name)] {
        bytes[from..from + field.len()].copy_from_slice(&field);
        if !dice.once_in(5) {
            bytes[from + field.len()] = 255;
        }
    }
    bytes
}

/// The options one by one, without pads and end.
fn each(mut options: &[u8]) -> Vec<Vec<u8>> {
    let mut each = Vec::new();
    while let [code @ 1..=254, length, ..] = *options {
        let _ = code;
        let (one, rest) = options.split_at(2 + usize::from(length));
        each.push(one.to_vec());
        options = rest;
    }
    each
}

fn v6_message(dice: &mut Dice, by_client: bool) -> Vec<u8> {
    use v6::MessageType::{
        Advertise, Confirm, Decline, InformationRequest, Rebind, Release, Renew, Reply, Request,
        Solicit,
    };

    let kind = if by_client {
        let asks = dice.pick(&[Solicit, Request, Renew, Rebind]);
        dice.mostly(&[asks, Release, Decline, Confirm, InformationRequest, Reply])
    } else {
        dice.mostly(&[Reply, Advertise, Request])
    };
    let mut message = v6::Message::new(kind);
    message.set_xid_num(dice.pick(&IDS));
    let options = message.opts_mut();
    if !dice.once_in(12) {
        options.insert(v6::DhcpOption::ClientId(vec![1; 10]));
    }
    if !by_client && !dice.once_in(12) {
        options.insert(v6::DhcpOption::ServerId(vec![2; 14]));
    }
    for _ in 0..dice.pick(&[1, 1, 1, 2, 3, 0]) {
        let opts = addresses(dice);
        options.insert(if dice.once_in(4) {
            v6::DhcpOption::IATA(IATA { id: 1, opts })
        } else {
            v6::DhcpOption::IANA(IANA { id: 1, t1: 0, t2: 0, opts })
        });
    }
    if dice.once_in(8) {
        // It stands outside of any association.
        options.insert(v6::DhcpOption::IAAddr(address(dice)));
    }
    encoded(&message)
}

fn addresses(dice: &mut Dice) -> DhcpOptions {
    let mut options = DhcpOptions::new();
    for _ in 0..dice.pick(&[1, 1, 1, 2, 2, 0, 4, 5]) {
        options.insert(v6::DhcpOption::IAAddr(address(dice)));
    }
    if dice.once_in(4) {
        options.insert(v6::DhcpOption::StatusCode(StatusCode {
            status: v6::Status::Success,
            msg: "all assigned".to_owned(),
        }));
    }
    options
}

fn address(dice: &mut Dice) -> IAAddr {
    let (addr, valid_life) = (dice.pick(&V6), dice.pick(&SECONDS));
    let mut opts = DhcpOptions::new();
    if dice.once_in(6) {
        let status = StatusCode { status: v6::Status::NoBinding, msg: String::new() };
        opts.insert(v6::DhcpOption::StatusCode(status));
    }
    IAAddr { addr, preferred_life: 7, valid_life, opts }
}

fn encoded(message: &impl Encodable) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What is written into a vector does not fail for want of room.
    message.encode(&mut Encoder::new(&mut bytes)).expect("a message that can be written");
    bytes
}
