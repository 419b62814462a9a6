use proptest::prelude::*;

use super::*;
use crate::{
    addr::{Mac, Station},
    frame::{COPY_BYTES, COPY_SLACK, Frame},
    samples::*,
};

/// Reads a frame as the kernel does: its beginning, copied.
fn of(frame: &[u8], tag: u16) -> Exchange {
    let mut bytes = [0xa5; COPY_BYTES + COPY_SLACK];
    let copied = frame.len().min(COPY_BYTES);
    bytes[..copied].copy_from_slice(&frame[..copied]);
    let mut found = Exchange::NOTHING;
    read(Copied::new(&bytes, copied), tag, &mut found);
    found
}

const SERVER_IP: [u8; 4] = [192, 0, 2, 1];
const ID: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A DHCP message with these options and, from its fixed part, what matters.
fn message(operation: u8, current: [u8; 4], yours: [u8; 4], options: &[u8]) -> Vec<u8> {
    let mut message = dhcp(operation, MAC_A)[..236].to_vec();
    message[4..8].copy_from_slice(&ID);
    message[12..16].copy_from_slice(&current);
    message[16..20].copy_from_slice(&yours);
    message.extend([0x63, 0x82, 0x53, 0x63]);
    message.extend(options);
    message
}

fn from_client(message: &[u8]) -> Vec<u8> {
    from_a(0x0800, &ipv4(ANY, UDP, &udp(68, 67, message)))
}

fn from_server(message: &[u8]) -> Vec<u8> {
    ethernet(MAC_A, MAC_B, &[], 0x0800, &ipv4(SERVER_IP, UDP, &udp(67, 68, message)))
}

fn kind(kind: u8) -> Vec<u8> {
    vec![53, 1, kind]
}

/// What a server says: kind, itself, the time.
fn granting(kind: u8, seconds: u32) -> Vec<u8> {
    let time = seconds.to_be_bytes();
    [&[53, 1, kind, 54, 4][..], &SERVER_IP, &[51, 4], &time].concat()
}

/// A name, a message, and what it comes to: the act, and the addresses with their times.
type Told = (&'static str, Vec<u8>, Act, Vec<(Address, u32)>);

/// An act, and the addresses with their times.
fn told(found: &Exchange) -> (Act, Vec<(Address, u32)>) {
    let leases = (0..MAX_ADDRESSES).filter_map(|number| found.lease(number));
    let act = [Act::None, Act::Asks, Act::GivesUp, Act::Leases, Act::Refuses];
    let leases = leases.filter(|_| !found.is(Act::None));
    (act[found.act as usize], leases.map(|lease| (lease.address, lease.seconds)).collect())
}

#[test]
fn what_a_client_says() {
    let requested = [&kind(3)[..], &[50, 4], &IP_A].concat();
    let declined = [&kind(4)[..], &[50, 4], &IP_A].concat();
    let wanted = u32::from_ne_bytes(IP_A);
    let a = mapped(IP_A);
    /// A name, the message, and what it comes to: the act, what it gives up, what it wants.
    type Case = (&'static str, Vec<u8>, Act, Vec<(Address, u32)>, u32);
    let cases: Vec<Case> = vec![
        ("discover", message(1, ANY, ANY, &kind(1)), Act::Asks, vec![], 0),
        ("request", message(1, ANY, ANY, &requested), Act::Asks, vec![], wanted),
        ("renewal", message(1, IP_A, ANY, &kind(3)), Act::Asks, vec![], wanted),
        ("release", message(1, IP_A, ANY, &kind(7)), Act::GivesUp, vec![(a, 0)], 0),
        ("decline", message(1, ANY, ANY, &declined), Act::GivesUp, vec![(a, 0)], wanted),
        ("inform", message(1, IP_A, ANY, &kind(8)), Act::None, vec![], 0),
        ("what a server says", message(1, ANY, IP_A, &granting(5, 60)), Act::None, vec![], 0),
        ("no kind", message(1, ANY, ANY, &[]), Act::None, vec![], 0),
        ("two kinds", message(1, ANY, ANY, &[kind(3), kind(7)].concat()), Act::None, vec![], 0),
    ];
    for (name, message, act, given_up, wanted) in cases {
        let found = of(&from_client(&message), 0);
        assert_eq!(told(&found), (act, given_up), "{name}");
        if act != Act::None {
            assert_eq!((found.id, found.wanted, found.family), (0x1234_5678, wanted, 4), "{name}");
            assert_eq!(found.client, Station::new(Mac(MAC_A), 0).word(), "{name}");
        }
    }
}

/// Only the request of a client that has the address and names no server (RFC 2131, section 4.3.2).
#[test]
fn what_prolongs_a_lease() {
    let own = u32::from_ne_bytes(IP_A);
    let with = |option: u8| [&kind(3)[..], &[option, 4], &IP_A].concat();
    let cases = [
        ("a renewal", message(1, IP_A, ANY, &kind(3)), own),
        ("with a time", message(1, IP_A, ANY, &with(51)), own),
        ("without an address", message(1, ANY, ANY, &kind(3)), 0),
        (
            "what was offered",
            message(1, ANY, ANY, &[with(50), vec![54, 4, 1, 2, 3, 4]].concat()),
            0,
        ),
        ("to a server", message(1, IP_A, ANY, &with(54)), 0),
        ("for another address", message(1, IP_A, ANY, &with(50)), 0),
        ("a release", message(1, IP_A, ANY, &kind(7)), 0),
        ("a decline", message(1, IP_A, ANY, &kind(4)), 0),
        ("an inform", message(1, IP_A, ANY, &kind(8)), 0),
        ("a discover", message(1, IP_A, ANY, &kind(1)), 0),
        ("an answer", message(2, IP_A, ANY, &kind(3)), 0),
        ("not to its end", message(1, IP_A, ANY, &[&kind(3)[..], &[12]].concat()), 0),
    ];
    for (name, message, expect) in cases {
        assert_eq!(renewed(&of(&from_client(&message), 0)), expect, "{name}");
    }
}

#[test]
fn what_a_server_says() {
    let ack = |options: &[u8]| message(2, ANY, IP_A, options);
    let good = granting(5, 3600);
    let a = |seconds| vec![(mapped(IP_A), seconds)];
    let refusal = [&kind(6)[..], &[54, 4], &SERVER_IP].concat();
    let mut relayed = ack(&good);
    relayed[1] = 6;
    let mut no_magic = ack(&good);
    no_magic[239] ^= 1;
    let cases: Vec<Told> = vec![
        ("ack", ack(&good), Act::Leases, a(3600)),
        ("ack, ended", ack(&[&good[..], &[255, 53, 1, 6]].concat()), Act::Leases, a(3600)),
        ("ack, padded", ack(&[&[0; 7][..], &good, &[0, 0, 255, 0]].concat()), Act::Leases, a(3600)),
        ("no end of it", ack(&granting(5, u32::MAX)), Act::Leases, a(u32::MAX)),
        ("other options", ack(&[&[12, 2, 53, 1], &good[..]].concat()), Act::Leases, a(3600)),
        ("offer", ack(&granting(2, 3600)), Act::None, vec![]),
        ("nak", message(2, ANY, ANY, &refusal), Act::Refuses, vec![]),
        ("nak of nobody", message(2, ANY, ANY, &kind(6)), Act::None, vec![]),
        ("of a client", ack(&kind(3)), Act::None, vec![]),
        // RFC 2131, section 4.3.5.
        ("answer to an inform", message(2, IP_A, ANY, &good), Act::None, vec![]),
        ("no time", ack(&[&kind(5)[..], &[54, 4], &SERVER_IP].concat()), Act::None, vec![]),
        ("no server", ack(&[53, 1, 5, 51, 4, 0, 0, 1, 0]), Act::None, vec![]),
        ("two times", ack(&[&good[..], &[51, 4, 0, 0, 9, 9]].concat()), Act::None, vec![]),
        ("a short time", ack(&[53, 1, 5, 54, 4, 1, 2, 3, 4, 51, 2, 1, 1]), Act::None, vec![]),
        ("cut off", ack(&good[..good.len() - 1]), Act::None, vec![]),
        ("beyond its end", ack(&[&good[..], &[12, 200, 1]].concat()), Act::None, vec![]),
        ("half an option", ack(&[&good[..], &[12]].concat()), Act::None, vec![]),
        ("another hardware", relayed, Act::None, vec![]),
        ("bootp", no_magic, Act::None, vec![]),
    ];
    for (name, message, act, leases) in cases {
        let found = of(&from_server(&message), 0);
        assert_eq!(told(&found), (act, leases), "{name}");
    }
}

/// Options may go on in the fields for names (RFC 2132, section 9.3), in the order file, sname.
#[test]
fn options_overflow() {
    let good = [granting(5, 60), vec![255]].concat();
    let (first, rest) = good.split_at(9);
    let overflow = |fields: u8, file: &[u8], sname: &[u8]| {
        let mut message = message(2, ANY, IP_A, &[&[52, 1, fields], first, &[255]].concat());
        message[108..108 + file.len()].copy_from_slice(file);
        message[44..44 + sname.len()].copy_from_slice(sname);
        message
    };
    let cases: Vec<(&str, Vec<u8>, Act)> = vec![
        ("file", overflow(1, rest, &[]), Act::Leases),
        ("sname", overflow(2, &[], rest), Act::Leases),
        ("both, in one", overflow(3, rest, &[]), Act::Leases),
        ("both, in the other", overflow(3, &[255], rest), Act::Leases),
        ("not said", overflow(0, rest, rest), Act::None),
        ("in both", overflow(3, rest, rest), Act::None),
        ("a full file", overflow(1, &[&rest[..6], &[12, 121]].concat(), &[]), Act::None),
        ("padding without end", overflow(1, &rest[..6], &[]), Act::None),
        ("overload again", overflow(1, &[&[52, 1, 2], rest].concat(), rest), Act::None),
    ];
    for (name, message, act) in cases {
        assert_eq!(told(&of(&from_server(&message), 0)).0, act, "{name}");
    }
}

fn option6(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn address6(address: [u8; 16], seconds: u32) -> Vec<u8> {
    option6(5, &[&address[..], &[0; 4], &seconds.to_be_bytes()].concat())
}

fn association(addresses: &[&[u8]]) -> Vec<u8> {
    option6(3, &[&[0; 12][..], &addresses.concat()].concat())
}

fn ids() -> Vec<u8> {
    [option6(1, &[1; 10]), option6(2, &[2; 14])].concat()
}

fn message6(kind: u8, options: &[Vec<u8>]) -> Vec<u8> {
    [&[kind, 0x34, 0x56, 0x78][..], &options.concat()].concat()
}

fn from_client6(message: &[u8]) -> Vec<u8> {
    from_a(0x86dd, &ipv6(LOCAL_A, UDP, 64, &udp(546, 547, message)))
}

fn from_server6(message: &[u8]) -> Vec<u8> {
    ethernet(MAC_A, MAC_B, &[], 0x86dd, &ipv6(LOCAL_B, UDP, 64, &udp(547, 546, message)))
}

#[test]
fn dhcpv6() {
    let (a, b) = (address6(IP6_A, 100), address6(IP6_B, 0));
    let both = vec![(v6(IP6_A), 100), (v6(IP6_B), 0)];
    let one = vec![(v6(IP6_A), 100)];
    let temporary = option6(4, &[&[0; 4][..], &a].concat());
    let many = association(&[&a[..]; 5]);
    let nested = association(&[&option6(5, &[&a[4..], &option6(13, &[0, 0])].concat())]);
    let longer = [&association(&[])[..2], &[0, 30], &[0; 12], &a].concat();
    let client: Vec<Told> = vec![
        ("solicit", message6(1, &[association(&[])]), Act::Asks, vec![]),
        ("request", message6(3, &[ids(), association(&[])]), Act::Asks, vec![]),
        ("confirm", message6(4, &[association(&[&a])]), Act::None, vec![]),
        ("renew", message6(5, &[ids()]), Act::Asks, vec![]),
        ("rebind", message6(6, &[ids()]), Act::Asks, vec![]),
        ("release", message6(8, &[ids(), association(&[&a])]), Act::GivesUp, one.clone()),
        ("decline", message6(9, &[ids(), association(&[&a])]), Act::GivesUp, one.clone()),
        ("information", message6(11, &[]), Act::None, vec![]),
        ("a server's", message6(7, &[ids(), association(&[&a])]), Act::None, vec![]),
        ("cut off", message6(1, &[])[..3].to_vec(), Act::None, vec![]),
    ];
    for (name, message, act, leases) in client {
        let found = of(&from_client6(&message), 0);
        assert_eq!(told(&found), (act, leases), "{name}");
        if act != Act::None {
            assert_eq!((found.id, found.family), (0x34_5678, 6), "{name}");
            assert_eq!(found.client, Station::new(Mac(MAC_A), 0).word(), "{name}");
        }
    }
    let reply = |options: &[Vec<u8>]| message6(7, &[&[ids()][..], options].concat());
    let server: Vec<Told> = vec![
        ("reply", reply(&[association(&[&a, &b])]), Act::Leases, both.clone()),
        ("two associations", reply(&[association(&[&a]), association(&[&b])]), Act::Leases, both),
        ("temporary", reply(&[temporary]), Act::Leases, one.clone()),
        ("with a status", reply(&[nested]), Act::Leases, one.clone()),
        ("an empty one", reply(&[association(&[])]), Act::Leases, vec![]),
        ("rapid commit", reply(&[option6(14, &[]), association(&[&a])]), Act::Leases, one),
        ("advertise", message6(2, &[ids(), association(&[&a])]), Act::None, vec![]),
        ("reconfigure", message6(10, &[ids()]), Act::None, vec![]),
        ("of nobody", message6(7, &[association(&[&a])]), Act::None, vec![]),
        ("outside of one", reply(std::slice::from_ref(&a)), Act::Leases, vec![]),
    ];
    for (name, message, act, leases) in server {
        assert_eq!(told(&of(&from_server6(&message), 0)), (act, leases), "{name}");
    }
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("too many", reply(&[many])),
        ("longer than it is", reply(&[longer])),
        ("a short address", reply(&[association(&[&option6(5, &[0; 23])])])),
        ("a short association", reply(&[option6(3, &[0; 11])])),
        ("beyond the end", reply(&[vec![0, 23, 0, 200, 1]])),
        ("half an option", reply(&[vec![0, 23, 0]])),
    ];
    for (name, message) in lies {
        assert_eq!(told(&of(&from_server6(&message), 0)).0, Act::None, "{name}");
    }
}

#[test]
fn only_a_whole_datagram_is_read() {
    let ack = message(2, ANY, IP_A, &granting(5, 60));
    let datagram = udp(67, 68, &ack);
    let packet = ipv4(SERVER_IP, UDP, &datagram);
    let acts = |frame: &[u8]| told(&of(frame, 0)).0;
    assert_eq!(acts(&from_a(0x0800, &packet)), Act::Leases);

    let tagged = |tags: &[(u16, u16)]| ethernet(MAC_A, MAC_B, tags, 0x0800, &packet);
    for (tags, tag, vlan) in [
        (&[][..], 7, 7),
        (&[(0x8100, 7)], 0, 7),
        (&[(0x8100, 0)], 7, 7),
        (&[(0x88a8, 0), (0x8100, 7)], 0, 7),
    ] {
        let found = of(&tagged(tags), tag);
        assert!(found.is(Act::Leases), "{tags:?}");
        assert_eq!(Station::from_word(found.client).vlan(), vlan, "{tags:?}");
    }
    let mut options = packet.clone();
    options[0] = 0x46;
    options[3] += 4;
    options.splice(20..20, [1, 1, 1, 1]);
    assert_eq!(acts(&from_a(0x0800, &options)), Act::Leases);
    assert_eq!(acts(&[&from_a(0x0800, &packet)[..], &[0xff; 40]].concat()), Act::Leases);

    let change = |at: usize, to: u8| {
        let mut frame = from_a(0x0800, &packet);
        frame[at] = to;
        frame
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("three tags", tagged(&[(0x8100, 0), (0x8100, 0), (0x8100, 0)])),
        ("IPv6 in name", change(14, 0x65)),
        ("a short header", change(14, 0x44)),
        ("a fragment", change(20, 0x20)),
        ("TCP", change(23, TCP)),
        ("longer than the frame", change(16, 0xff)),
        ("a short datagram", change(38, 0)),
        ("a long datagram", change(38, 0xff)),
        ("another port", change(37, 69)),
    ];
    for (name, frame) in cases {
        assert_eq!(acts(&frame), Act::None, "{name}");
    }
    for end in 0..from_a(0x0800, &packet).len() {
        assert_eq!(acts(&from_a(0x0800, &packet)[..end]), Act::None, "{end} bytes");
    }
    let long = message(2, ANY, IP_A, &[granting(5, 60), vec![0; 1000]].concat());
    assert_eq!(acts(&from_server(&long)), Act::None, "more than is copied");
}

/// Well-formed messages, of which a property test changes bytes.
fn frames() -> Vec<Vec<u8>> {
    let overload = [&[52, 1, 3], &granting(5, 60)[..9], &[255]].concat();
    vec![
        from_client(&message(1, ANY, ANY, &[&kind(3)[..], &[50, 4], &IP_A].concat())),
        from_server(&message(2, ANY, IP_A, &granting(5, 60))),
        from_server(&message(2, ANY, IP_A, &overload)),
        from_client6(&message6(8, &[ids(), association(&[&address6(IP6_A, 5)])])),
        from_server6(&message6(7, &[ids(), association(&[&address6(IP6_A, 5)])])),
    ]
}

proptest! {
    /// Any bytes are read without panic, and the cheap test never overlooks a message.
    #[test]
    fn arbitrary_frames(frame in prop::collection::vec(any::<u8>(), 0..1500), tag in any::<u16>()) {
        let found = of(&frame, tag);
        prop_assert!(found.count as usize <= MAX_ADDRESSES);
        prop_assert!(found.is(Act::None), "noise teaches");
    }

    #[test]
    fn mutated_frames(
        frame in prop::sample::select(frames()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut frame = frame;
        for (at, to) in changes {
            let at = at.index(frame.len());
            frame[at] = to;
        }
        if let Some(end) = end {
            frame.truncate(end.index(frame.len()));
        }
        let found = of(&frame, 0);
        prop_assert!(found.count as usize <= MAX_ADDRESSES);
        if !found.is(Act::None) {
            prop_assert!(may_be_dhcp(Frame::new(&frame)));
            // What is taught stands in the message.
            for number in 0..MAX_ADDRESSES {
                let Some(lease) = found.lease(number) else { continue };
                let bytes = lease.address.bytes();
                let bytes = if lease.address.is_mapped() { &bytes[12..] } else { &bytes[..] };
                prop_assert!(frame.windows(bytes.len()).any(|window| window == bytes));
            }
        }
    }
}
