//! Guests whose leases nobody here has seen: a renewal gets them what they have.

use super::*;

/// A message with a source of its own, whatever it says.
fn from(source: Ipv4Addr, message: &Message) -> Vec<u8> {
    let mut frame = Message { current: source, ..message.clone() }.from_client();
    frame[54..58].copy_from_slice(&message.current.octets());
    frame
}

/// How often the message has got out. Not all of it is recorded, but the number of its transaction.
fn copies(scene: &Scene, frame: &[u8]) -> usize {
    let outside = scene.outside().unwrap();
    outside.iter().filter(|one| one.bytes.starts_with(&frame[..60])).count()
}

#[test]
fn a_renewal_passes_from_an_address_that_is_nobodys() {
    with_server("enforce", |scene, daemon, a, b| {
        let leased = at(A, LEASED);
        let renewal = Message { current: LEASED, ..Message::new(REQUEST, ID, A.mac) };
        let other = Ipv4Addr::new(192, 0, 2, 98);
        let of = |kind| Message { kind, ..renewal.clone() };
        let refused = [
            ("a release", from(LEASED, &of(RELEASE))),
            ("a decline", from(LEASED, &Message { requested: Some(LEASED), ..of(DECLINE) })),
            ("an INFORM", from(LEASED, &of(INFORM))),
            ("a DISCOVER", from(LEASED, &of(DISCOVER))),
            ("an answer", from(LEASED, &of(ACK))),
            ("another address", from(LEASED, &Message { current: other, ..renewal.clone() })),
            ("no address", from(LEASED, &Message { current: [0; 4].into(), ..renewal.clone() })),
            ("one that selects", from(LEASED, &Message { server: Some(HOST_IP), ..of(REQUEST) })),
            ("one that asks", from(LEASED, &Message { requested: Some(LEASED), ..of(REQUEST) })),
            ("what another has", from(B.ip, &Message { current: B.ip, ..renewal.clone() })),
            ("what the host has", from(HOST_IP, &Message { current: HOST_IP, ..renewal.clone() })),
        ];
        let mut other_client = renewal.from_client();
        other_client[70..76].copy_from_slice(&B.mac);
        let refused = refused.into_iter().chain([("of another client", other_client)]);
        for (seq, (name, mut frame)) in (1..).zip(refused) {
            frame[46..50].copy_from_slice(&(ID + 100 + seq as u32).to_be_bytes());
            a.send(&frame).unwrap();
            assert!(!passes(scene, a, leased, (b, B), seq), "{name}");
            assert_eq!(copies(scene, &frame), 0, "{name}");
        }
        // What was refused has begun nothing.
        serve(scene, a, &Message::ack(ID, A.mac, LEASED, 600).from_server(SERVER));
        assert!(!passes(scene, a, leased, (b, B), 30), "unasked");

        let before = count(daemon, "tap-a", "address-not-leased");
        a.send(&renewal.from_client()).unwrap();
        assert!(!passes(scene, a, leased, (b, B), 31), "as long as no server answers");
        assert_eq!(copies(scene, &renewal.from_client()), 1);
        assert_eq!(count(daemon, "tap-a", "address-not-leased"), before + 1);
        serve(scene, a, &Message::ack(ID, A.mac, LEASED, 600).from_server(SERVER));
        assert!(passes(scene, a, leased, (b, B), 32), "renewed");
        assert_eq!(learned(daemon, "tap-a")[0]["origin"], "dhcp");

        // What a server refuses stays refused.
        let renewal = Message { current: other, ..Message::new(REQUEST, ID + 1, A.mac) };
        a.send(&renewal.from_client()).unwrap();
        let refusal = Message { kind: NAK, ..Message::ack(ID + 1, A.mac, [0; 4].into(), 1) };
        serve(scene, a, &refusal.from_server(SERVER));
        assert!(!passes(scene, a, at(A, other), (b, B), 33), "refused");
        assert_eq!(addresses(daemon, "tap-a"), [LEASED.to_string()]);
    });
}
