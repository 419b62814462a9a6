use detector_core::model::{KnownLease, SandboxRules};

use crate::api::view::{AdmissionOutcome, AdmissionView};

use super::{super::input::Admit, *};

const CALL: u64 = 700;

fn admit(vm: Vm, links: Vec<Link>) -> Input {
    Input::Admit(Box::new(Admit {
        id: CALL,
        source: LIBVIRT.to_owned(),
        name: vm.name.clone(),
        vm: Ok(vm),
        links,
        registry: Some(registry()),
    }))
}

fn web() -> (Vm, Vec<Link>) {
    (vm("web", 1, "vnet0"), vec![link(10, "vnet0")])
}

fn view(host: &mut Host) -> Option<AdmissionView> {
    match host.answer(CALL)? {
        Ok(Reply::Admission(view)) => Some(view),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_answer_comes_when_the_grant_is_in_force() {
    let mut host = Host::new(Mode::Enforce);
    let (vm, links) = web();
    host.turn(vec![admit(vm, links)]);
    assert_eq!(host.port(10), Port::Mute, "guarded before rtnetlink has told of it");
    assert_eq!(view(&mut host), None);
    host.read(|_| APPROVED);
    assert_eq!(host.port(10), Port::Granted);
    let answer = view(&mut host).unwrap();
    assert_eq!((answer.start, answer.outcome), (true, AdmissionOutcome::Granted));
    assert_eq!(answer.message, "");
}

#[test]
fn the_answer_waits_until_the_kernel_has_it() {
    let mut host = Host::new(Mode::Enforce);
    host.kernel().broken.insert("slot 10".to_owned());
    let (vm, links) = web();
    host.turn(vec![admit(vm, links)]);
    host.read(|_| APPROVED);
    assert_eq!(view(&mut host), None);
    host.kernel().broken.clear();
    host.wait(Duration::from_secs(1));
    assert_eq!(view(&mut host).unwrap().outcome, AdmissionOutcome::Granted);
}

/// What a start waits for is the verdict: what helps beside it, and fails, is another finding.
#[test]
fn only_what_stands_between_a_vm_and_its_network_holds_up_its_start() {
    const DEFEND: &str = "defend 10 52:54:00:00:00:01";
    const PIN: &str = "pin 10 52:54:00:00:00:01";
    let cases = [
        ("teach 10", APPROVED, Some(AdmissionOutcome::Granted)),
        (PIN, APPROVED, Some(AdmissionOutcome::Granted)),
        (DEFEND, APPROVED, Some(AdmissionOutcome::Granted)),
        ("open 10", FOUND, Some(AdmissionOutcome::Denied)),
        ("slot 10", APPROVED, None),
        ("guard 10", APPROVED, None),
    ];
    for (step, digest, outcome) in cases {
        let mut host = Host::new(Mode::Enforce);
        host.brain.world.policy.quarantine = QuarantineMode::Sandbox;
        host.brain.world.policy.sandbox = Some(SandboxRules::new("sbx0"));
        let sandbox = Link { kind: LinkKind::Bridge, master: None, ..link(3, "sbx0") };
        let lease = KnownLease {
            mac: mac(1),
            vlan: 0,
            bridge: None,
            address: [192, 0, 2, 7].into(),
            expires: None,
            from_file: true,
        };
        host.turn(vec![Input::Link(LinkEvent::Seen(sandbox)), Input::Leases(vec![lease])]);
        host.kernel().broken.insert(step.to_owned());
        let (mut vm, links) = web();
        vm.nics[0].rule = Some(AddressRule::Dhcp);
        host.turn(vec![admit(vm, links)]);
        host.read(|_| digest);
        assert_eq!(view(&mut host).map(|answer| answer.outcome), outcome, "{step}");

        host.told();
        host.wait(Duration::from_secs(1));
        let kind = if outcome.is_some() { "impaired" } else { "failed" };
        assert_eq!(host.told(), [format!("+enforcement-{kind}")], "{step}");
        host.kernel().taken();
        host.kernel().broken.clear();
        host.wait(Duration::from_secs(31));
        assert!(host.kernel().taken().contains(&step.to_owned()), "{step} is done in the end");
        assert_eq!(host.told(), [format!("-enforcement-{kind}")], "{step}");
    }
}

#[test]
fn refusals_follow_the_rules() {
    use OnRefusal::{Mute, Refuse};
    let cases = [
        (Mode::Enforce, Mute, Some(FOUND), true, AdmissionOutcome::Denied, Port::Isolated),
        (Mode::Enforce, Refuse, Some(FOUND), false, AdmissionOutcome::Denied, Port::Isolated),
        (Mode::Observe, Refuse, Some(FOUND), true, AdmissionOutcome::Denied, Port::Isolated),
        (Mode::Enforce, Mute, None, true, AdmissionOutcome::Undecided, Port::Mute),
        (Mode::Enforce, Refuse, None, false, AdmissionOutcome::Undecided, Port::Mute),
        (Mode::Observe, Refuse, None, true, AdmissionOutcome::Undecided, Port::Mute),
    ];
    for (mode, rule, digest, start, outcome, port) in cases {
        let case = format!("{mode:?} {rule:?} {digest:?}");
        let mut host = Host::with(mode, |rules| {
            rules.denied = rule;
            rules.on_timeout = rule;
        });
        let (vm, links) = web();
        host.turn(vec![admit(vm, links)]);
        match digest {
            Some(digest) => {
                host.read(|_| digest);
            }
            None => {
                host.wait(Duration::from_secs(9));
                assert_eq!(view(&mut host), None, "{case}");
                assert!(host.brain.wake_at() <= Some(Timestamp(host.now + 1000)), "{case}");
                host.wait(Duration::from_secs(1));
            }
        }
        let answer = view(&mut host).unwrap();
        assert_eq!((answer.start, answer.outcome), (start, outcome), "{case}");
        assert!(answer.message.contains("detector explain web"), "{case}: {}", answer.message);
        assert_eq!(host.port(10), port, "{case}");
    }
}

#[test]
fn a_start_that_was_refused_leaves_no_vm_behind() {
    let mut host = Host::with(Mode::Enforce, |rules| rules.denied = OnRefusal::Refuse);
    let (vm, links) = web();
    host.turn(vec![admit(vm, links)]);
    host.read(|_| FOUND);
    assert!(!view(&mut host).unwrap().start);
    assert!(host.brain.world.sources[LIBVIRT].vms.is_empty());
}

#[test]
fn a_listing_made_just_before_the_start_takes_nothing_away() {
    let stale = [
        ("without it", listing(vec![])),
        ("with it off", listing(vec![off(vm("web", 1, "vnet0"))])),
        ("it is off", said(Update::Changed(off(vm("web", 1, "vnet0"))))),
        ("it is gone", said(Update::Gone(uuid(1)))),
    ];
    for (case, stale) in stale {
        let mut host = Host::new(Mode::Enforce);
        let (web, links) = web();
        host.turn(vec![admit(web, links)]);
        host.read(|_| APPROVED);
        host.turn(vec![stale]);
        assert_eq!(host.port(10), Port::Granted, "{case}");

        // Where it is no slip but the start has failed, it counts after a while.
        host.wait(Duration::from_secs(31));
        let mut vms = host.brain.world.sources[LIBVIRT].vms.values();
        assert!(vms.all(|vm| vm.power == PowerState::Off), "{case}");
    }
}

#[test]
fn once_the_source_has_seen_it_run_its_word_counts() {
    let mut host = Host::new(Mode::Enforce);
    let (web, links) = web();
    host.turn(vec![admit(web.clone(), links)]);
    host.read(|_| APPROVED);
    host.turn(vec![said(Update::Changed(web.clone()))]);
    assert_eq!(host.gathers(), 0, "it is the same run");
    host.turn(vec![said(Update::Changed(off(web)))]);
    assert_eq!(host.port(10), Port::Mute);
}

#[test]
fn the_hook_vouches_for_a_manager_whose_connection_is_lost() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![said(Update::Lost { why: "starting up".to_owned() })]);
    let (web, links) = web();
    host.turn(vec![admit(web.clone(), links)]);
    host.read(|_| APPROVED);
    assert_eq!(view(&mut host).unwrap().outcome, AdmissionOutcome::Granted);
    assert_eq!(host.port(10), Port::Granted);
    host.turn(vec![listing(vec![web])]);
    assert_eq!(host.port(10), Port::Granted);
    assert_eq!(host.brain.world.sources.len(), 1, "the stand-in is gone");
}

#[test]
fn evidence_of_an_earlier_run_admits_nobody() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.turn(vec![gone(10), said(Update::Changed(off(vm("web", 1, "vnet0"))))]);
    host.turn(vec![admit(vm("web", 1, "vnet0"), vec![link(11, "vnet0")])]);
    host.wait(Duration::from_secs(11));
    assert_eq!(view(&mut host).unwrap().outcome, AdmissionOutcome::Undecided);
    assert_eq!(host.port(11), Port::Mute);
    host.turn(vec![said(Update::Changed(vm("web", 1, "vnet0")))]);
    assert_eq!(host.port(11), Port::Mute, "the disk may be another one");
    host.read(|_| FOUND);
    assert_eq!(host.port(11), Port::Isolated);
}

/// The start has failed and its tap is gone, but the hook's word still stands. Another tap that gets
/// the name is another port.
#[test]
fn the_hooks_word_grants_nothing_to_the_next_tap_of_that_name() {
    let lost = || said(Update::Lost { why: "restarting".to_owned() });
    let cases = [
        ("listed without it", None, Some(listing(vec![]))),
        ("listed as off", None, Some(listing(vec![off(vm("web", 1, "vnet0"))]))),
        ("it is gone", None, Some(said(Update::Gone(uuid(1))))),
        ("the manager is lost", Some(lost()), None),
        ("the manager is lost afterwards", None, Some(lost())),
    ];
    for (case, before, after) in cases {
        let mut host = Host::new(Mode::Enforce);
        host.turn(before.into_iter().collect());
        let (web, links) = web();
        host.turn(vec![admit(web, links)]);
        host.read(|_| APPROVED);
        assert_eq!(host.port(10), Port::Granted, "{case}");
        host.turn(vec![gone(10)]);
        host.turn(after.into_iter().collect());
        host.turn(vec![tap(11, "vnet0")]);
        assert_eq!(host.port(11), Port::Mute, "{case}");
    }
}

#[test]
fn a_description_that_cannot_be_read_starts_mute() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![Input::Admit(Box::new(Admit {
        id: CALL,
        source: LIBVIRT.to_owned(),
        name: "evil".to_owned(),
        vm: Err("line 1: no element".to_owned()),
        links: Vec::new(),
        registry: None,
    }))]);
    let answer = view(&mut host).unwrap();
    assert_eq!((answer.start, answer.outcome), (true, AdmissionOutcome::Undecided));
    assert!(answer.message.contains("line 1"), "{}", answer.message);
}

#[test]
fn a_grant_that_another_port_holds_is_not_claimed_to_be_in_force() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    let mut clone = vm("clone", 2, "vnet1");
    clone.nics[0].mac = mac(1);
    host.turn(vec![admit(clone, vec![link(11, "vnet1")])]);
    host.read(|_| APPROVED);
    let answer = view(&mut host).unwrap();
    assert_eq!((answer.start, answer.outcome), (true, AdmissionOutcome::Undecided));
    assert!(answer.message.contains("52:54:00:00:00:01"), "{}", answer.message);
    assert_eq!((host.port(10), host.port(11)), (Port::Granted, Port::Mute));
}

/// What defends the VM's MAC: entries of forwarding and of owners.
fn defences(host: &mut Host) -> (usize, usize) {
    let held = &host.kernel().state.interfaces[&10];
    (held.forwarding.len(), held.defended.len())
}

#[test]
fn a_vm_that_arrives_is_granted_at_once_and_defended_when_it_runs() {
    let power = |power| Vm { power, ..vm("web", 1, "vnet0") };
    let (web, links) = web();
    for announced in [true, false] {
        let mut host = Host::new(Mode::Enforce);
        if announced {
            host.turn(vec![Input::Incoming(web.uuid)]);
        }
        host.turn(vec![admit(web.clone(), links.clone())]);
        host.read(|_| APPROVED);
        assert_eq!(view(&mut host).unwrap().outcome, AdmissionOutcome::Granted);
        let expected = if announced { (0, 0) } else { (1, 1) };
        assert_eq!((host.port(10), defences(&mut host)), (Port::Granted, expected));
        // What libvirt says of a process that it is still preparing.
        host.turn(vec![said(Update::Changed(power(PowerState::Starting)))]);
        assert_eq!(defences(&mut host), expected);
        host.turn(vec![listing(vec![power(PowerState::Starting)])]);
        assert_eq!(defences(&mut host), expected);
        host.turn(vec![said(Update::Changed(power(PowerState::InTransit)))]);
        assert_eq!(defences(&mut host), (0, 0));
        host.turn(vec![said(Update::Changed(power(PowerState::Running)))]);
        assert_eq!((host.port(10), defences(&mut host)), (Port::Granted, (1, 1)));
        // It leaves again, stays after all, and the next start is an ordinary one.
        host.turn(vec![said(Update::Departed(web.uuid))]);
        assert_eq!((host.port(10), defences(&mut host)), (Port::Granted, (0, 0)));
        host.turn(vec![said(Update::Changed(power(PowerState::Running)))]);
        assert_eq!(defences(&mut host), (1, 1));
        host.turn(vec![admit(web.clone(), links.clone())]);
        assert_eq!(defences(&mut host), (1, 1));
    }
}

#[test]
fn an_arrival_that_was_announced_long_ago_is_forgotten() {
    let mut host = Host::new(Mode::Enforce);
    let (web, links) = web();
    host.turn(vec![Input::Incoming(web.uuid)]);
    host.wait(Duration::from_secs(61));
    host.turn(vec![admit(web, links)]);
    host.read(|_| APPROVED);
    assert_eq!((host.port(10), defences(&mut host)), (Port::Granted, (1, 1)));
}

/// Whether the port is lent addresses for having come from another host.
fn is_lent(host: &mut Host) -> bool {
    let slot = host.kernel().state.interfaces[&10].slot;
    assert_eq!(slot.lends() != 0, slot.has(flags::ARRIVED));
    slot.has(flags::ARRIVED)
}

#[test]
fn a_vm_that_was_announced_is_lent_addresses_until_it_has_settled_in() {
    let (mut web, links) = web();
    web.nics[0].rule = Some(AddressRule::Dhcp);
    let power = |power| said(Update::Changed(Vm { power, ..web.clone() }));
    for announced in [true, false] {
        let mut host = Host::new(Mode::Enforce);
        if announced {
            host.turn(vec![Input::Incoming(web.uuid)]);
        }
        host.turn(vec![admit(web.clone(), links.clone())]);
        host.read(|_| APPROVED);
        assert_eq!((host.port(10), is_lent(&mut host)), (Port::Granted, announced));
        host.turn(vec![power(PowerState::InTransit)]);
        // Its memory takes its time.
        for _ in 0..3 {
            host.wait(Duration::from_secs(59));
        }
        assert_eq!(is_lent(&mut host), announced);
        host.turn(vec![power(PowerState::Running)]);
        host.wait(Duration::from_secs(59));
        assert_eq!(is_lent(&mut host), announced);
        host.wait(Duration::from_secs(2));
        assert!(!is_lent(&mut host));
        // One that leaves is lent nothing.
        host.turn(vec![said(Update::Departed(web.uuid))]);
        assert_eq!((host.port(10), is_lent(&mut host)), (Port::Granted, false));
    }
}
