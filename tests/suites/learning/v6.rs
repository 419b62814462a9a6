//! DHCPv6.

use std::net::Ipv6Addr;

use detector_common::samples::{UDP, ethernet, ipv6, udp};
use detector_tests::dhcp::{
    ADVERTISE, CONFIRM, Client6, DECLINE6, INFORMATION, RELEASE6, RENEW, REPLY, REQUEST6, SOLICIT,
};

use super::*;

const CLIENT: Client6 = Client6 { station: A, id: 0x0012_3456 };

/// A datagram under the address, with a number.
fn frame(station: Station, address: Ipv6Addr, seq: u16) -> Vec<u8> {
    let datagram = udp(4242, 4000 + seq, &seq.to_be_bytes());
    let to = [0x33, 0x33, 0, 0, 0, 1];
    ethernet(to, station.mac, &[], 0x86dd, &ipv6(address.octets(), UDP, 64, &datagram))
}

/// Whether a frame of the station under the address gets out.
pub(super) fn goes_out(
    scene: &Scene,
    (tap, station): (&Tap, Station),
    address: Ipv6Addr,
    witness: (&Tap, Station),
    seq: u16,
) -> bool {
    let (other, known) = witness;
    let (said, mark) = (frame(station, address, seq), beat(known, 1_000 + u64::from(seq)));
    in_order(|| {
        tap.send(&said).unwrap();
        other.send(&mark).unwrap();
    });
    scene.await_outside("the witness", &mark).unwrap();
    scene.copies_outside(&said).unwrap() == 1
}

/// The same of the client.
fn passes6(
    scene: &Scene,
    tap: &Tap,
    address: Ipv6Addr,
    witness: (&Tap, Station),
    seq: u16,
) -> bool {
    goes_out(scene, (tap, A), address, witness, seq)
}

#[test]
fn a_real_server_leases_renews_and_is_told_of_the_end() {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    network.ip("address add 2001:db8::1/64 dev br0 nodad").unwrap();
    network.ip("address add fe80::1/64 dev br0 nodad").unwrap();
    let (local, mac) = (A.link_local(), hex(A.mac));
    network.ip(&format!("neighbour add {local} lladdr {mac} dev br0")).unwrap();
    let vms = [learner("a", "tap-a", A, "dhcp", ""), vm("b", "tap-b", B)];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    wait::until("the bridge's own address", PATIENCE, || {
        let text = network.ip("-6 address show dev br0 scope link")?;
        Ok((text.contains("fe80") && !text.contains("tentative")).then_some(()))
    })
    .unwrap();
    let _server = Server::start(scene.host()).unwrap();
    let answer = |kind: u8| {
        wait::until(&format!("a DHCPv6 message {kind}"), PATIENCE, || {
            let mut answers = a.drain()?.into_iter().filter_map(|frame| CLIENT.parse(&frame));
            Ok(answers.find(|answer| answer.0 == kind))
        })
        .unwrap()
    };
    a.send(&CLIENT.says(SOLICIT, None, &[])).unwrap();
    let (_, server, offered) = answer(ADVERTISE);
    let offered = offered.unwrap();
    assert!(!passes6(&scene, &a, offered, (&b, B), 1), "what is only offered");
    a.send(&CLIENT.says(REQUEST6, Some(&server), &[offered])).unwrap();
    let (_, _, leased) = answer(REPLY);
    assert_eq!(leased, Some(offered));
    assert!(passes6(&scene, &a, offered, (&b, B), 2), "what is leased");
    let told = learned(&daemon, "tap-a");
    assert_eq!(
        (&told[0]["address"], &told[0]["origin"]),
        (&offered.to_string().into(), &"dhcp".into())
    );
    a.send(&CLIENT.says(RENEW, Some(&server), &[offered])).unwrap();
    answer(REPLY);
    assert!(passes6(&scene, &a, offered, (&b, B), 3), "renewed");
    a.send(&CLIENT.says(RELEASE6, Some(&server), &[offered])).unwrap();
    assert!(!passes6(&scene, &a, offered, (&b, B), 4), "given up");
}

#[test]
fn only_the_answer_to_what_was_asked_teaches() {
    with_server("enforce", |scene, daemon, a, b| {
        let address: Ipv6Addr = "2001:db8::77".parse().unwrap();
        let good = CLIENT.is_told(REPLY, SERVER, &[address], 600);
        serve(scene, a, &good);
        assert!(!passes6(scene, a, address, (b, B), 1), "unasked");
        a.send(&CLIENT.says(SOLICIT, None, &[])).unwrap();
        let other_id = Client6 { id: CLIENT.id + 1, ..CLIENT };
        let cases = [
            ("another transaction", other_id.is_told(REPLY, SERVER, &[address], 600)),
            ("an offer", CLIENT.is_told(ADVERTISE, SERVER, &[address], 600)),
            ("no time", CLIENT.is_told(REPLY, SERVER, &[address], 0)),
            ("nobody's", CLIENT.is_told(REPLY, SERVER, &[Ipv6Addr::LOCALHOST], 600)),
        ];
        for (seq, (name, frame)) in (10..).zip(cases) {
            serve(scene, a, &frame);
            assert!(!passes6(scene, a, address, (b, B), seq), "{name}");
        }
        let forged = CLIENT.is_told(REPLY, B, &[address], 600);
        b.send(&forged).unwrap();
        assert!(!passes6(scene, a, address, (b, B), 30), "of a guest");
        assert_eq!(learned(daemon, "tap-a"), [] as [Value; 0]);

        serve(scene, a, &good);
        assert!(passes6(scene, a, address, (b, B), 31), "at last, by rapid commit");
        serve(scene, a, &CLIENT.is_told(REPLY, SERVER, &[address], 0));
        assert!(!passes6(scene, a, address, (b, B), 32), "the server ends it");
    });
}

#[test]
fn leases_end() {
    with_server("enforce", |scene, daemon, a, b| {
        let address: Ipv6Addr = "2001:db8::77".parse().unwrap();
        let server = [0, 3, 0, 1, 2, 2, 2, 2, 2, 2];
        let client = |id| Client6 { id, ..CLIENT };
        let gain = |id: u32, seconds: u32| {
            a.send(&client(id).says(REQUEST6, Some(&server), &[address])).unwrap();
            serve(scene, a, &client(id).is_told(REPLY, SERVER, &[address], seconds));
        };
        // What asks for no lease is answered with none.
        for (seq, kind) in [(1, CONFIRM), (2, INFORMATION)] {
            a.send(&client(seq.into()).says(kind, None, &[address])).unwrap();
            serve(scene, a, &client(seq.into()).is_told(REPLY, SERVER, &[address], 600));
            assert!(!passes6(scene, a, address, (b, B), seq), "{kind}");
        }
        gain(3, 600);
        assert!(passes6(scene, a, address, (b, B), 3), "leased");
        a.send(&client(4).says(DECLINE6, Some(&server), &[address])).unwrap();
        assert!(!passes6(scene, a, address, (b, B), 4), "declined");
        assert_eq!(learned(daemon, "tap-a"), [] as [Value; 0]);

        gain(5, 5);
        assert!(passes6(scene, a, address, (b, B), 5), "leased for a while");
        let mut seq = 10;
        wait::until("the lease to end", PATIENCE, || {
            seq += 1;
            Ok((!passes6(scene, a, address, (b, B), seq)).then_some(()))
        })
        .unwrap();
        wait::until("it to be told no more", PATIENCE, || {
            Ok(learned(daemon, "tap-a").is_empty().then_some(()))
        })
        .unwrap();
    });
}

/// What a server has leased to one is another's neither by a lease nor by coming first, and both are told.
#[test]
fn a_lease_that_lasts_is_nobody_elses() {
    let scene = Scene::new().unwrap();
    let witness = Station::number(12);
    let vms = [
        learner("a", "tap-a", A, "dhcp", ""),
        learner("b", "tap-b", B, "first-come", ""),
        vm("c", "tap-c", witness),
    ];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let [a, b, c] =
        ["tap-a", "tap-b", "tap-c"].map(|port| scene.plug_granted(&daemon, port).unwrap());
    let address: Ipv6Addr = "2001:db8::77".parse().unwrap();
    a.send(&CLIENT.says(SOLICIT, None, &[])).unwrap();
    serve(&scene, &a, &CLIENT.is_told(REPLY, SERVER, &[address], 600));
    assert!(passes6(&scene, &a, address, (&c, witness), 1), "leased");
    assert!(!goes_out(&scene, (&b, B), address, (&c, witness), 2), "claimed by another");
    let finding = daemon.await_finding("address-conflict", "tap-b\\\" claims", PATIENCE).unwrap();
    let text = finding.to_string();
    assert!(text.contains("tap-a") && text.contains("2001:db8::77"), "{text}");
    assert!(passes6(&scene, &a, address, (&c, witness), 3), "still its own");

    // What came first gives way to a server's word.
    let claimed: Ipv6Addr = "2001:db8::78".parse().unwrap();
    assert!(goes_out(&scene, (&b, B), claimed, (&c, witness), 4), "the first");
    let again = Client6 { id: 2, ..CLIENT };
    a.send(&again.says(SOLICIT, None, &[])).unwrap();
    serve(&scene, &a, &again.is_told(REPLY, SERVER, &[claimed], 600));
    assert!(!goes_out(&scene, (&b, B), claimed, (&c, witness), 5), "leased to another");
    assert!(passes6(&scene, &a, claimed, (&c, witness), 6), "by a server's word");
}
