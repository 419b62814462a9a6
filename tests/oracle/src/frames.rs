//! Frames by chance: well-formed ones of every kind that the rules speak of, with contents near their
//! borders, and then some of them broken.

use detector_common::samples::{
    ALL_NODES, ANY, ANY6, BROADCAST, FRAGMENT, IP_A, IP_B, IP6_A, IP6_B, LOCAL_A, LOCAL_B, MAC_A,
    MAC_B, TCP, UDP, arp, ethernet, extension, fragment, icmpv6, ipv4_fragment, ipv6, link_layer,
    neighbour, option, summed, table, udp,
};

use crate::{Arrival, dice::Dice};

const DOT1Q: u16 = 0x8100;
const TAGS: [u16; 5] = [DOT1Q, DOT1Q, 0x88a8, 0x9100, 0x9200];
const VLANS: [u16; 7] = [0, 0, 5, 7, 0xe000, 0x2005, 4095];
const VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 1, 0x33];
const VIRTUAL6: [u8; 6] = [0, 0, 0x5e, 0, 2, 0x33];
const NEARLY_VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 3, 0x33];
const MACS: [[u8; 6]; 8] =
    [MAC_A, MAC_B, VIRTUAL, VIRTUAL6, NEARLY_VIRTUAL, BROADCAST, [0; 6], [1, 0, 0x5e, 0, 0, 1]];
const V4: [[u8; 4]; 10] = [
    IP_A,
    IP_B,
    ANY,
    [10, 1, 2, 3],
    [0, 0, 0, 1],
    [127, 0, 0, 1],
    [224, 0, 0, 1],
    [255; 4],
    [192, 0, 3, 7],
    [223, 255, 255, 255],
];
const MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7];
const LOOPBACK: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const V6: [[u8; 16]; 10] =
    [IP6_A, LOCAL_A, IP6_B, LOCAL_B, ANY6, [0xfd; 16], ALL_NODES, MAPPED, LOOPBACK, [0xfe; 16]];

/// Fixed, so that a difference comes back; printed with it. The host judges the frames of this seed, and
/// the loaded programs the beginning of the same stream.
pub const SEED: u64 = 0x0dd5_eed5;

/// Frames without end, the same for the same seed.
pub fn stream(seed: u64) -> impl Iterator<Item = Arrival> {
    let mut dice = Dice::new(seed);
    std::iter::repeat_with(move || any(&mut dice))
}

/// The frame of this roll of the dice.
pub fn any(dice: &mut Dice) -> Arrival {
    let bytes = match dice.roll(16) {
        0 => {
            let length = dice.roll(600);
            dice.bytes(length)
        }
        1 | 2 => {
            let samples = table();
            samples[dice.roll(samples.len())].1.clone()
        }
        _ => structured(dice),
    };
    let bytes = if dice.once_in(3) && !bytes.is_empty() { dice.mutate(&bytes) } else { bytes };
    let tag = dice.once_in(6).then(|| (dice.pick(&TAGS), dice.pick(&VLANS)));
    Arrival { bytes, tag, in_segments: dice.once_in(12) }
}

fn structured(dice: &mut Dice) -> Vec<u8> {
    let source = dice.mostly(&MACS);
    let bridge = [1, 0x80, 0xc2, 0, 0, dice.roll(20) as u8];
    let to = if dice.once_in(20) { bridge } else { dice.pick(&[MAC_B, BROADCAST, [0x33; 6]]) };
    let tags: Vec<_> = match dice.roll(6) {
        0 => (0..1 + dice.roll(4)).map(|_| (dice.pick(&TAGS), dice.pick(&VLANS))).collect(),
        _ => Vec::new(),
    };
    let (kind, payload) = match dice.roll(12) {
        0 => (0x0806, address_resolution(dice, source)),
        1 => (0x8035, address_resolution(dice, source)),
        2..=5 => (0x0800, v4(dice, source)),
        6..=10 => (0x86dd, v6(dice, source)),
        _ => (dice.pick(&[0x88cc, 0x8847, 46, 0x05ff, 0x0600, 0x888e]), dice.bytes(46)),
    };
    ethernet(to, source, &tags, kind, &payload)
}

fn mac(dice: &mut Dice, own: [u8; 6]) -> [u8; 6] {
    let other = dice.pick(&MACS);
    dice.mostly(&[own, other])
}

fn address_resolution(dice: &mut Dice, own: [u8; 6]) -> Vec<u8> {
    let operation = dice.pick(&[1, 2, 3, 4, 0, 0x100]);
    let (sender, address) = (mac(dice, own), dice.mostly(&V4));
    let mut packet = arp(operation, sender, address);
    let target = mac(dice, own);
    packet[18..24].copy_from_slice(&target);
    if dice.once_in(4) {
        packet.resize(46, 0);
    }
    packet
}

fn v4(dice: &mut Dice, own: [u8; 6]) -> Vec<u8> {
    let source = dice.mostly(&V4);
    let protocol = dice.pick(&[UDP, UDP, UDP, TCP, 1, 2, 112, 103, 51, 132]);
    let payload = match protocol {
        UDP => {
            let (from, to) = (port(dice), port(dice));
            let message = if dice.once_in(2) {
                lease(dice, own, source)
            } else {
                let length = dice.roll(60);
                dice.bytes(length)
            };
            udp(from, to, &message)
        }
        1 => [&[dice.pick(&[8, 0, 5, 9, 10, 3]), 0][..], &[0; 10]].concat(),
        2 => [&[dice.pick(&[0x11, 0x12, 0x16, 0x17, 0x22, 0x30, 0x13]), 0][..], &[0; 6]].concat(),
        _ => dice.bytes(24),
    };
    let field = dice.mostly(&[0, 0x4000, 0x2000, 0x2001, 1, 0x1fff]);
    let mut packet = ipv4_fragment(source, protocol, field, &cut(dice, payload));
    if dice.once_in(5) {
        // Options.
        let words = dice.roll(11);
        let options = dice.bytes(words * 4);
        packet.splice(20..20, options);
        packet[0] = 0x45 + words as u8;
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
    }
    if dice.once_in(10) {
        packet[3] = packet[3].wrapping_add(dice.roll(9) as u8).wrapping_sub(4);
    }
    if dice.once_in(15) {
        packet[0] = dice.byte();
    }
    // The checksum of a header that lies about its length is of no account.
    let words = usize::from(packet[0] & 0x0f) * 4;
    if !dice.once_in(12) && (20..=packet.len()).contains(&words) {
        packet = summed(packet);
    }
    packet
}

fn port(dice: &mut Dice) -> u16 {
    dice.pick(&[68, 67, 68, 67, 546, 547, 53, 4000])
}

/// A DHCP message, near enough: often one that prolongs a lease, or differs from it by a little.
fn lease(dice: &mut Dice, own: [u8; 6], source: [u8; 4]) -> Vec<u8> {
    let mut message = vec![dice.mostly(&[1, 2, 0]), dice.mostly(&[1, 6]), dice.mostly(&[6, 16]), 0];
    message.resize(12, 0);
    let other = dice.pick(&V4);
    message.extend(dice.mostly(&[source, other]));
    message.resize(28, 0);
    message.extend(mac(dice, own));
    message.resize(240, 0);
    if dice.once_in(4) {
        return cut(dice, message);
    }
    message[236..240].copy_from_slice(&[0x63, 0x82, 0x53, dice.mostly(&[0x63, 0])]);
    let said = [53, 1, dice.mostly(&[3, 1, 4, 5, 7, 8])];
    let overload = dice.once_in(6).then(|| dice.pick(&[1, 2, 3]));
    match overload {
        Some(fields) => {
            let field = dice.pick(&[44, 108, 240]);
            let at = if field == 240 { 243 } else { field };
            message.extend([52, 1, fields]);
            message.resize(300, 0);
            message[at..at + 3].copy_from_slice(&said);
            message[at + 3] = 255;
            if field != 240 {
                message[243] = 255;
            }
            message[if field == 44 { 108 } else { 44 }] = dice.mostly(&[255, 0, 9]);
        }
        None => message.extend(said),
    }
    let more = dice.pick(&[0, 0, 0, 50, 51, 54, 12, 53]);
    if more != 0 && overload.is_none() {
        let length = dice.mostly(&[4, 1, 0]);
        message.extend([more, length as u8]);
        let value = dice.bytes(length);
        message.extend(value);
    }
    if overload.is_none() && !dice.once_in(6) {
        message.push(255);
        let length = message.len() + dice.roll(120);
        message.resize(length, 0);
    }
    cut(dice, message)
}

/// Sometimes less of it.
fn cut(dice: &mut Dice, mut payload: Vec<u8>) -> Vec<u8> {
    if dice.once_in(8) {
        payload.truncate(dice.roll(payload.len() + 1));
    }
    payload
}

fn v6(dice: &mut Dice, own: [u8; 6]) -> Vec<u8> {
    let (mut next, payload) = match dice.roll(8) {
        0 => (TCP, dice.bytes(20)),
        1 => {
            let (from, to) = (port(dice), port(dice));
            let kind = dice.pick(&[1, 2, 3, 7, 10, 11, 12, 13]);
            (UDP, udp(from, to, &[kind, 1, 2, 3, 0, 0]))
        }
        2 => (dice.pick(&[112, 103, 59, 4, 41, 50]), dice.bytes(12)),
        _ => (58, control(dice, own)),
    };
    let mut payload = cut(dice, payload);
    for _ in 0..dice.pick(&[0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6]) {
        let kind = dice.pick(&[0, 43, FRAGMENT, 51, 60, 60, 135, 139, 140]);
        payload = match kind {
            FRAGMENT => {
                let offset = dice.mostly(&[0, 0, 1, 0x1fff]);
                fragment(next, offset, dice.once_in(3), &payload)
            }
            51 => {
                let units = dice.mostly(&[2, 1, 4, 0]);
                let mut header = vec![next, units];
                header.resize((usize::from(units) + 2) * 4, 0);
                header.extend(payload);
                header
            }
            _ => {
                let units = dice.mostly(&[0, 1, 5, 20, 38, 60]);
                let mut header = extension(next, units, &payload);
                if dice.once_in(15) {
                    header[1] = dice.byte();
                }
                header
            }
        };
        next = kind;
    }
    let hop_limit = dice.mostly(&[255, 64, 254, 1]);
    let mut packet = ipv6(dice.mostly(&V6), next, hop_limit, &payload);
    if dice.once_in(12) {
        packet[5] = packet[5].wrapping_add(dice.roll(17) as u8).wrapping_sub(8);
    }
    packet
}

/// An ICMPv6 message.
fn control(dice: &mut Dice, own: [u8; 6]) -> Vec<u8> {
    let kind = dice.pick(&[128, 130, 131, 132, 133, 134, 135, 135, 136, 136, 137, 143, 151, 153]);
    let options: Vec<_> =
        (0..dice.pick(&[0, 0, 1, 1, 2, 3, 4, 5])).map(|_| nd_option(dice, own)).collect();
    let mut message = match kind {
        135 | 136 => neighbour(kind, dice.mostly(&V6), &options),
        _ => icmpv6(kind, 0, &[&[0; 4][..], &options.concat()].concat()),
    };
    if dice.once_in(12) {
        message[1] = 1;
    }
    message
}

fn nd_option(dice: &mut Dice, own: [u8; 6]) -> Vec<u8> {
    match dice.roll(6) {
        0..=2 => {
            let kind = dice.pick(&[1, 2]);
            link_layer(kind, mac(dice, own))
        }
        3 => option(dice.pick(&[1, 2, 14]), dice.pick(&[0, 2])),
        4 => option(14, dice.pick(&[3, 16, 60])),
        _ => option(14, 1),
    }
}
