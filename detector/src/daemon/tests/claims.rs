//! Claims without a grant: what is told of them, and what they cost.

use detector_common::{
    addr::{Address, Station},
    claim::{ClaimRecord, Family},
    event::{Event, EventRecord, HEAD_BYTES},
    learned::Origin,
    reason::Reason,
};
use detector_core::model::{Learned, Subject};

use super::*;

#[test]
fn claims_are_kept_within_bounds() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    let instance = host.kernel().state.interfaces[&10].slot.instance;
    let event = |number: u32, instance| claim(10, instance, number);
    host.turn((0..5000).map(|number| event(number, instance)).collect());
    host.turn((0..100).map(|number| event(number, instance + 1)).collect());
    host.kernel().taken();
    host.turn(vec![event(4999, instance)]);
    assert_eq!(host.kernel().taken(), [""; 0], "nothing to do for what is known");
    let seen = &host.brain.world.seen[&10];
    assert!(seen.len() <= 16, "{}", seen.len());
    assert!(seen.iter().all(|seen| seen.instance == instance));
    let frames = &host.brain.world.frames[&10];
    assert!(frames.len() <= 16, "{}", frames.len());
    assert_eq!(host.port(10), Port::Granted);
}

/// What was refused of it before is not what the finding about a claim is about.
#[test]
fn a_finding_shows_the_first_frame_of_what_it_is_about() {
    let (mut host, [instance, _]) = two();
    let early = event(10, instance, Mac([2, 0, 0, 0, 0, 7]), None, Reason::PortIsolated);
    host.turn(vec![early, claim(10, instance, 9), claim(10, instance, 10)]);
    let told = foreign(&host, 10);
    let layer = r#"("layer", "Ethernet: 02:00:00:00:00:09 to ff:ff:ff:ff:ff:ff, IPv4")"#;
    assert!(told.contains(layer), "{told}");
    assert_eq!(told.matches("Ethernet: ").count(), 1, "{told}");
    assert!(told.contains(r#"("layer", "IP header: "#), "what is missing: {told}");
    host.turn(vec![gone(10)]);
    assert!(host.brain.world.frames.is_empty(), "nothing is kept of a port that has gone");
}

/// The port has claimed a MAC of this number.
fn claim(ifindex: u32, instance: u32, number: u32) -> Input {
    let [.., a, b, c, d] = number.to_be_bytes();
    event(ifindex, instance, Mac([2, 0, a, b, c, d]), None, Reason::MacNotGranted)
}

fn event(ifindex: u32, instance: u32, mac: Mac, address: Option<[u8; 4]>, reason: Reason) -> Input {
    let family = if address.is_some() { Family::V4 } else { Family::None };
    let address = address.map_or(Address::UNSPECIFIED, Address::mapped);
    let event = Event {
        at: 0,
        ifindex,
        instance,
        port: 0,
        dropped: 1,
        copied: 14,
        held: 0,
        claim: ClaimRecord::new(address, Station::new(mac, 0), 0x800, family, reason),
    };
    let mut head = [0xff; HEAD_BYTES];
    head[6..12].copy_from_slice(&mac.0);
    head[12..14].copy_from_slice(&[0x08, 0]);
    Input::Kernel(EventRecord { event, head })
}

/// Two VMs that are granted, with the instances of their ports.
fn two() -> (Host, [u32; 2]) {
    let mut host = Host::new(Mode::Enforce);
    let vms = vec![vm("web", 1, "vnet0"), vm("app", 2, "vnet1")];
    host.turn(vec![tap(10, "vnet0"), tap(11, "vnet1"), listing(vms)]);
    host.read(|_| APPROVED);
    host.told();
    host.now += 20;
    let instances = [10, 11].map(|port| host.kernel().state.interfaces[&port].slot.instance);
    (host, instances)
}

/// What the open finding about the claims of a port says.
fn foreign(host: &Host, ifindex: u32) -> String {
    let of_port = |finding: &&&detector_core::model::Finding| matches!(finding.key.subject, Subject::Port { ifindex: port, .. } if port == ifindex);
    let open = host.brain.findings.open();
    format!("{:?}", open.iter().find(of_port))
}

/// A guest that claims whatever it can think of does not keep the daemon busy, and holds up nothing that
/// is to be told of another.
#[test]
fn claims_that_follow_closely_are_looked_at_together() {
    let (mut host, [web, app]) = two();
    host.turn(vec![claim(10, web, 50)]);
    assert_eq!(host.told(), ["+foreign-identity"], "the first at once");
    let first = foreign(&host, 10);
    for number in 51..60 {
        host.turn(vec![claim(10, web, number)]);
    }
    host.turn(vec![event(10, web, mac(1), Some([192, 0, 2, 50]), Reason::AddressTaken)]);
    assert_eq!(host.told(), [""; 0], "another kind waits");
    assert!(host.brain.wake_at() <= Some(Timestamp(host.now + 20)));
    host.turn(vec![claim(11, app, 50)]);
    assert_eq!(host.told(), ["+foreign-identity"], "another port's comes at once");
    assert_eq!(foreign(&host, 10), first, "evidence waits");
    host.now += 20;
    host.turn(vec![]);
    assert_eq!(host.told(), ["+address-conflict"], "not for long");
    host.wait(Duration::from_secs(1));
    assert_ne!(foreign(&host, 10), first);
}

/// What a port claims is told on the ground of the decision that is there.
#[test]
fn a_claim_costs_no_new_decision() {
    let (mut host, [web, _]) = two();
    host.brain.decision.wake_at = Some(Timestamp(u64::MAX));
    let as_before = |host: &Host| host.brain.decision.wake_at == Some(Timestamp(u64::MAX));
    for number in 0..100 {
        host.turn(vec![claim(10, web, number)]);
    }
    assert_eq!(host.told(), ["+foreign-identity"]);
    assert!(as_before(&host), "it has decided anew");
    host.wait(Duration::from_secs(1));
    assert!(!as_before(&host), "in time it does");
    assert_eq!(host.told(), [""; 0], "and says the same");
}

/// What comes in from outside concerns the VM whose MAC it is.
#[test]
fn a_clone_beyond_the_uplink_is_told_of_at_once() {
    let (mut host, _) = two();
    let uplink = Link { kind: LinkKind::Physical, ..link(20, "eth0") };
    host.turn(vec![Input::Link(LinkEvent::Seen(uplink))]);
    host.now += 20;
    let instance = host.kernel().state.interfaces[&20].slot.instance;
    host.turn(vec![event(20, instance, mac(1), None, Reason::MacOfLocalGuest)]);
    assert_eq!(host.told(), ["+mac-clone"]);
}

/// The finding names who has the address, though nobody has asked the kernel for that before.
#[test]
fn who_has_a_claimed_address_is_read_when_it_is_claimed() {
    let (mut host, [web, app]) = two();
    let address = [192, 0, 2, 50];
    let one = Learned {
        instance: web,
        scope: BRIDGE,
        mac: mac(1),
        vlan: 0,
        address: address.into(),
        origin: Origin::FirstCome,
        since: Timestamp(host.now),
        expires: None,
    };
    host.kernel().learned.insert(10, vec![one]);
    host.turn(vec![event(11, app, mac(2), Some(address), Reason::AddressTaken)]);
    assert_eq!(host.told(), ["+address-conflict"]);
    let told = foreign(&host, 11);
    assert!(told.contains("vnet0") && told.contains("192.0.2.50"), "{told}");
}
