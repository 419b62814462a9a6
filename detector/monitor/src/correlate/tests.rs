use detector_core::{
    fleet::message::{HostState, NicState, PolicyState, RefusedBundle, Time, Version, VmState},
    model::{Digest, Severity},
};

use super::{Kind, Settling, correlate};
use crate::estate::{
    Estate, OpenFinding, Told,
    tests::{state, vm},
};

const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn at(second: i64) -> Time {
    Time::from_second(second).unwrap()
}

fn with(mut vm: VmState, power: &str, mac: &str, addresses: &[&str]) -> VmState {
    vm.power = power.to_owned();
    vm.nics.push(NicState {
        mac: mac.to_owned(),
        port: None,
        status: None,
        addresses: addresses.iter().map(|&text| text.to_owned()).collect(),
    });
    vm
}

/// Hosts with a VM each.
fn estate(vms: &[(&str, VmState)]) -> Estate {
    let mut estate = Estate::default();
    for host in ["a", "b", "c"] {
        let of = vms.iter().filter(|(name, _)| *name == host).map(|(_, vm)| vm.clone()).collect();
        let (host, state) = (host.to_owned(), state(1));
        estate.apply(at(0), Told::Whole { host, state, vms: of, findings: Vec::new() });
    }
    estate
}

fn kinds(estate: &Estate) -> Vec<(Kind, String)> {
    let apart = ["192.168.122.0/24".parse().unwrap()];
    let found = correlate(estate, at(1), &apart);
    let found = found.into_iter().filter(|one| !one.handover);
    found.map(|one| (one.kind, one.hosts.into_iter().collect())).collect()
}

#[test]
fn one_identity_on_two_hosts() {
    let mac = "52:54:00:00:00:01";
    let one = |number, power, mac, addresses: &[&str]| {
        with(vm(number, "approved"), power, mac, addresses)
    };
    let cut_off = |power| with(vm(1, "quarantined"), power, mac, &[]);
    let ab = |kind| (kind, "ab".to_owned());
    let cases = [
        (
            "others",
            one(1, "running", mac, &["192.0.2.1"]),
            one(2, "running", "52:54:00:00:00:02", &["192.0.2.2"]),
            vec![],
        ),
        (
            "a MAC",
            one(1, "running", mac, &[]),
            one(2, "running", mac, &[]),
            vec![ab(Kind::MacTwice)],
        ),
        (
            "paused is there, too",
            one(1, "paused", mac, &[]),
            one(2, "running", mac, &[]),
            vec![ab(Kind::MacTwice)],
        ),
        ("one is off", one(1, "off", mac, &[]), one(2, "running", mac, &[]), vec![]),
        (
            "all of it",
            one(1, "running", mac, &["192.0.2.1"]),
            one(1, "running", mac, &["192.0.2.1"]),
            vec![ab(Kind::UuidTwice), ab(Kind::MacTwice), ab(Kind::AddressTwice)],
        ),
        (
            "handed over: it leaves",
            one(1, "in-transit", mac, &["192.0.2.1"]),
            one(1, "running", mac, &["192.0.2.1"]),
            vec![],
        ),
        (
            "handed over: it comes",
            one(1, "running", mac, &["192.0.2.1"]),
            one(1, "in-transit", mac, &["192.0.2.1"]),
            vec![],
        ),
        (
            "handed over: it has come",
            one(1, "off", mac, &["192.0.2.1"]),
            one(1, "running", mac, &["192.0.2.1"]),
            vec![],
        ),
        (
            "an address",
            one(1, "running", mac, &["192.0.2.1"]),
            one(2, "running", "52:54:00:00:00:02", &["192.0.2.1"]),
            vec![ab(Kind::AddressTwice)],
        ),
        (
            "each host's own network",
            one(1, "running", mac, &["192.168.122.9", "fe80::1", "10.0.0.0/8", "any-v4"]),
            one(
                2,
                "running",
                "52:54:00:00:00:02",
                &["192.168.122.9", "fe80::1", "10.0.0.0/8", "any-v4"],
            ),
            vec![],
        ),
        (
            "quarantined, and back elsewhere",
            cut_off("off"),
            one(1, "running", "52:54:00:00:00:02", &[]),
            vec![ab(Kind::QuarantineEvaded)],
        ),
        ("quarantined on both", cut_off("running"), cut_off("off"), vec![]),
        ("quarantined, and off elsewhere", cut_off("running"), one(1, "off", mac, &[]), vec![]),
    ];
    for (what, on_a, on_b, expect) in cases {
        assert_eq!(kinds(&estate(&[("a", on_a), ("b", on_b)])), expect, "{what}");
    }
}

#[test]
fn a_vm_on_its_way_excuses_nobody_but_the_two_hosts_that_hand_it_over() {
    let mac = "52:54:00:00:00:01";
    let one = |number, power| with(vm(number, "approved"), power, mac, &["192.0.2.1"]);
    let all = |hosts: &str| {
        [Kind::UuidTwice, Kind::MacTwice, Kind::AddressTwice]
            .map(|kind| (kind, hosts.to_owned()))
            .to_vec()
    };
    let other = || all("abc")[1..].to_vec();
    let cases = [
        (
            "a third that runs it",
            [one(1, "running"), one(1, "in-transit"), one(1, "running")],
            all("abc"),
        ),
        (
            "a third that says so as well",
            [one(1, "running"), one(1, "running"), one(1, "in-transit")],
            all("abc"),
        ),
        (
            "two that say so",
            [one(1, "running"), one(1, "in-transit"), one(1, "in-transit")],
            all("abc"),
        ),
        (
            "another VM of its MAC",
            [one(1, "running"), one(1, "in-transit"), one(2, "running")],
            other(),
        ),
        (
            "and one on its way, too",
            [one(1, "running"), one(1, "in-transit"), one(2, "in-transit")],
            other(),
        ),
        (
            "a third where it is off",
            [one(1, "running"), one(1, "in-transit"), one(1, "off")],
            vec![],
        ),
    ];
    for (what, [a, b, c], expect) in cases {
        assert_eq!(kinds(&estate(&[("a", a), ("b", b), ("c", c)])), expect, "{what}");
    }
    // One VM of two hosts that is on its way beside another one there of the same MAC.
    let beside = [("a", one(1, "running")), ("b", one(1, "in-transit")), ("b", one(2, "running"))];
    let ab = all("ab")[1..].to_vec();
    assert_eq!(kinds(&estate(&beside)), ab);
    // A quarantined one that moves is not evaded while it moves.
    let cut_off = || with(vm(1, "quarantined"), "running", mac, &[]);
    let evaded = |power, also: Option<&'static str>| {
        let also = also.map(|power| ("c", one(1, power)));
        let vms: Vec<_> =
            [("a", cut_off()), ("b", one(1, power))].into_iter().chain(also).collect();
        kinds(&estate(&vms)).iter().any(|(kind, _)| *kind == Kind::QuarantineEvaded)
    };
    assert!(!evaded("in-transit", None) && evaded("running", None));
    assert!(evaded("in-transit", Some("in-transit")) && evaded("in-transit", Some("running")));
}

#[test]
fn a_vm_is_on_its_way_for_an_hour_at_the_most() {
    let mac = "52:54:00:00:00:01";
    let on = |a, b| {
        let one = |power| with(vm(1, "approved"), power, mac, &[]);
        estate(&[("a", one(a)), ("b", one(b))])
    };
    let (moves, both, over) =
        (on("running", "in-transit"), on("running", "running"), on("off", "running"));
    let mut settling = Settling::new(20);
    let mut told =
        |second, estate: &Estate| settling.turn(at(second), correlate(estate, at(1), &[])).len();
    assert_eq!([0, 1800, 3580].map(|second| told(second, &moves)), [0; 3]);
    // At its end it is on both for a moment.
    assert_eq!((told(3590, &both), told(3595, &over)), (0, 0));
    // A host that says so for ever, or now and then.
    assert_eq!((told(4000, &moves), told(7599, &moves), told(7600, &moves)), (0, 0, 2));
    assert_eq!(told(7601, &over), 0);
    for second in (8000..11_600).step_by(10) {
        let estate = if second % 20 == 0 { &moves } else { &both };
        assert_eq!(told(second, estate), 0, "{second}");
    }
    assert_eq!(told(11_600, &moves), 2);
}

#[test]
fn what_hosts_say_one_after_another_is_told_once_it_lasts() {
    let mac = "52:54:00:00:00:01";
    let twice = || with(vm(1, "approved"), "running", mac, &[]);
    let between = estate(&[("a", twice()), ("b", twice())]);
    let after = estate(&[("b", twice())]);
    let mut settling = Settling::new(20);
    let mut told = |second, estate: &Estate| {
        let found = correlate(estate, at(1), &[]);
        settling.turn(at(second), found).len()
    };
    assert_eq!(told(0, &between), 0);
    assert_eq!(told(19, &between), 0);
    assert_eq!(told(20, &between), 2);
    assert_eq!(told(21, &after), 0);
    assert_eq!(told(22, &between), 0, "it begins anew");
    // A third host that joins in now and then keeps nobody from being told.
    let joined = estate(&[("a", twice()), ("b", twice()), ("c", twice())]);
    assert_eq!(told(30, &joined), 0);
    assert_eq!(told(42, &between), 2);
    told(43, &after);
    assert_eq!(told(44, &between), 0);
    // A clock that is set back makes nothing last for ever.
    assert_eq!(told(2, &between), 0);
    assert_eq!(told(22, &between), 2);
}

#[test]
fn an_unknown_image_on_several_hosts() {
    let finding = |kind: &str, text: &str| OpenFinding {
        id: "1".to_owned(),
        kind: kind.to_owned(),
        severity: Severity::High,
        title: String::new(),
        evidence: vec![("lineage".to_owned(), text.to_owned())],
        next: None,
        since: at(0),
        vm: None,
        settled: false,
    };
    let text = format!("its base has sha256 {DIGEST}, which is of no template");
    let cases = [
        (finding("rogue-vm", &text), finding("rogue-vm", &text.to_uppercase()), 1),
        (finding("rogue-vm", &text), finding("rogue-vm", "something else"), 0),
        (finding("rogue-vm", &text), finding("medium-changed", &text), 0),
        (finding("rogue-vm", &text), finding("rogue-vm", &format!("{DIGEST}0")), 0),
    ];
    for (on_a, on_b, expect) in cases {
        let mut estate = Estate::default();
        for (host, finding) in [("a", on_a), ("b", on_b)] {
            let (host, state) = (host.to_owned(), state(1));
            let findings = vec![finding];
            estate.apply(at(0), Told::Whole { host, state, vms: Vec::new(), findings });
        }
        assert_eq!(kinds(&estate).len(), expect, "{estate:?}");
    }
}

#[test]
fn hosts_that_are_silent_or_differ() {
    let version = |number| Some(Version { number, sha256: Digest([0; 32]) });
    let goes_by = |number: u64| PolicyState { in_force: version(number), ..PolicyState::default() };
    let drifted = PolicyState { drift: vec!["policy.cedar".to_owned()], ..goes_by(7) };
    let refused = RefusedBundle { version: 8, sha256: None, why: "it has expired".to_owned() };
    let refused = PolicyState { refused: Some(refused), ..goes_by(7) };
    let none = PolicyState::default;
    let cases = [
        ([none(), none(), none()], vec![]),
        ([goes_by(7), goes_by(7), goes_by(7)], vec![]),
        ([goes_by(7), goes_by(7), goes_by(6)], vec!["c"]),
        ([goes_by(7), goes_by(7), none()], vec!["c"]),
        ([goes_by(7), goes_by(6), goes_by(5)], vec![]),
        ([drifted, goes_by(7), goes_by(7)], vec!["a"]),
        ([refused.clone(), goes_by(8), goes_by(8)], vec!["a"]),
    ];
    for (policies, expect) in cases {
        let mut estate = Estate::default();
        for (host, policy) in ["a", "b", "c"].into_iter().zip(policies) {
            let state = HostState { policy, ..state(1) };
            estate.apply(at(0), Told::State { host: host.to_owned(), state });
        }
        let found = correlate(&estate, at(1), &[]);
        let subjects: Vec<_> = found.iter().map(|one| one.subject.as_str()).collect();
        assert_eq!(subjects, expect);
        assert!(found.iter().all(|one| one.kind == Kind::PolicyDiffers));
        let silent = correlate(&estate, at(1000), &[]);
        assert_eq!(silent.iter().filter(|one| one.kind == Kind::HostSilent).count(), 3);
    }
}
