use detector_core::model::Evidence;

use super::*;

#[test]
fn a_new_port_is_guarded_in_the_turn_that_tells_of_it() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![Input::Tick, listing(vec![vm("web", 1, "vnet0")]), tap(10, "vnet0")]);
    assert_eq!(host.kernel().taken()[0], "guard 10", "before anything else");
    assert_eq!(host.port(10), Port::Mute);
    host.read(|_| APPROVED);
    assert_eq!(host.port(10), Port::Granted);
}

#[test]
fn verdicts() {
    let cases = [
        (Mode::Enforce, APPROVED, Port::Granted, 0, vec![]),
        (Mode::Enforce, FOUND, Port::Isolated, 1, vec!["+rogue-vm"]),
        (Mode::Observe, FOUND, Port::Isolated, 0, vec!["+rogue-vm"]),
    ];
    for (mode, digest, port, quarantines, told) in cases {
        let mut host = Host::new(mode);
        host.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
        host.read(|_| digest);
        assert_eq!(host.port(10), port, "{mode:?} {digest}");
        assert_eq!(host.kernel().state.quarantines.len(), quarantines, "{mode:?} {digest}");
        assert_eq!(host.told(), told, "{mode:?} {digest}");
    }
}

#[test]
fn a_settled_host_is_left_alone() {
    let mut host = Host::new(Mode::Enforce);
    host.approved().kernel().taken();
    host.turn(vec![listing(vec![vm("web", 1, "vnet0")]), tap(10, "vnet0")]);
    host.wait(Duration::from_secs(100));
    assert_eq!(host.kernel().taken(), [""; 0]);
    assert_eq!(host.gathers(), 0);
}

#[test]
fn losing_a_source_changes_nothing_and_is_told() {
    let mut host = Host::new(Mode::Enforce);
    host.approved().kernel().taken();
    host.turn(vec![said(Update::Lost { why: "gone".to_owned() })]);
    host.turn(vec![tap(11, "vnet1")]);
    assert_eq!(host.port(10), Port::Granted);
    assert_eq!(host.port(11), Port::Mute, "nothing new is admitted");
    assert_eq!(host.told(), [""; 0], "it may come back at once");
    host.wait(Duration::from_secs(2));
    assert_eq!(host.told(), ["+unknown-port", "+source-lost"]);
    host.turn(vec![listing(vec![])]);
    assert_eq!(host.port(10), Port::Granted, "an empty list takes nothing away");
}

#[test]
fn nothing_is_inherited_by_the_next_interface_of_the_same_number_or_name() {
    let cases = [
        ("in two turns", vec![vec![gone(10)], vec![tap(10, "vnet0")]]),
        ("in one turn", vec![vec![gone(10), tap(10, "vnet0")]]),
        ("of another number", vec![vec![gone(10)], vec![tap(11, "vnet0")]]),
        (
            "unnoticed",
            vec![
                vec![Input::Link(LinkEvent::Resynced(vec![]))],
                vec![Input::Link(LinkEvent::Resynced(vec![link(11, "vnet0")]))],
            ],
        ),
    ];
    for (case, turns) in cases {
        let mut host = Host::new(Mode::Enforce);
        host.approved();
        let before = host.kernel().state.interfaces[&10].slot.instance;
        for turn in turns {
            host.turn(turn);
        }
        let ifindex = if host.port(10) == Port::None { 11 } else { 10 };
        assert_ne!(host.port(ifindex), Port::Granted, "{case}");
        if let Some(held) = host.kernel().state.interfaces.get(&ifindex) {
            assert_ne!(held.slot.instance, before, "{case}");
        }
    }
}

#[test]
fn what_media_showed_in_an_earlier_run_proves_nothing_now() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.turn(vec![said(Update::Changed(off(vm("web", 1, "vnet0")))), gone(10)]);
    host.turn(vec![tap(11, "vnet0"), said(Update::Changed(vm("web", 1, "vnet0")))]);
    assert_eq!(host.port(11), Port::Mute, "until its disk has been read again");
    host.read(|_| FOUND);
    assert_eq!(host.port(11), Port::Isolated);
}

#[test]
fn nobody_is_muted_by_who_starts_with_the_same_medium() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    let mut second = vm("second", 2, "vnet1");
    second.media = vm("web", 1, "vnet0").media;
    host.turn(vec![tap(11, "vnet1"), said(Update::Changed(second))]);
    assert_eq!(host.port(10), Port::Granted);
    assert_eq!(host.gathers(), 1, "it is read again all the same");
    let (file, ticket) = (image("web"), host.ticket());
    let evidence = Evidence::Unreadable("a hiccup".to_owned());
    host.turn(vec![Input::Evidence { file, ticket, evidence }]);
    assert_eq!(host.port(10), Port::Granted, "what was read of it still stands");
    assert_eq!(host.port(11), Port::Mute, "but proves nothing for the other");
    host.wait(Duration::from_secs(60)).read(|_| APPROVED);
    assert_eq!((host.port(10), host.port(11)), (Port::Granted, Port::Granted));
}

#[test]
fn a_result_that_nobody_waits_for_is_dropped() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
    let file = image("web");
    let evidence = chain(&file.path, APPROVED);
    host.turn(vec![Input::Evidence { file, ticket: 99, evidence }]);
    assert_eq!(host.port(10), Port::Mute);
}

#[test]
fn a_medium_that_cannot_be_read_is_tried_again() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
    for _ in 0..3 {
        let ticket = host.ticket();
        host.effects.clear();
        let (file, evidence) = (image("web"), Evidence::Unreadable("EIO".to_owned()));
        host.turn(vec![Input::Evidence { file, ticket, evidence }]);
        assert_eq!((host.port(10), host.gathers()), (Port::Mute, 0));
        host.wait(Duration::from_secs(60));
        assert_eq!(host.gathers(), 1);
    }
    host.read(|_| APPROVED);
    assert_eq!(host.port(10), Port::Granted);
}

#[test]
fn a_port_without_a_vm_is_told_of_after_the_grace() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![tap(10, "stray")]);
    assert_eq!((host.port(10), host.told()), (Port::Mute, vec![]));
    assert!(host.effects.contains(&Effect::AskSources), "libvirt may know it by now");
    assert!(host.brain.wake_at() <= Some(Timestamp(host.now + 1000)));
    host.wait(Duration::from_secs(1));
    assert_eq!(host.told(), ["+unknown-port"]);
    host.turn(vec![gone(10)]);
    assert_eq!(host.told(), ["-unknown-port"]);
}
