use super::*;

fn isolated(port: u32, flags: u32) -> Action {
    Action::WriteSlot { ifindex: port, instance: 1, slot: SlotEntry { flags, ..granted() } }
}

/// Frames from the port that were refused because it is isolated.
fn refused(enforcer: &mut KernelEnforcer, port: u32) -> u64 {
    enforcer.counts(port).unwrap().unwrap().from.get(&Reason::PortIsolated).copied().unwrap_or(0)
}

/// What `ip` says of XDP on the tap.
fn xdp_mode() -> Option<&'static str> {
    let shown = run("ip", "-details link show dev tap0");
    [" xdpgeneric", " xdp"].into_iter().find(|mode| shown.contains(*mode))
}

#[test]
fn a_shield_counts_outlives_the_daemon_and_yields_to_the_slot() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let guest = Tap::open("tap0");
    let port = ifindex("tap0");
    let (put, drop_it) = (
        Action::PutShield { ifindex: port, instance: 1 },
        Action::DropShield { ifindex: port, instance: 1 },
    );
    let by_verdict = flags::ISOLATED;
    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[Action::SetMode(Mode::Enforce.into()), guard(port)]);
    carry_out(&mut enforcer, &[isolated(port, by_verdict), put.clone(), put.clone()]);
    assert_eq!(xdp_mode(), Some(" xdp"), "native, never generic");
    assert_eq!(interface(&mut enforcer, port).shield, Shield::On);
    let pin = PinPaths::new(root.path()).shield(port);
    assert!(pin.exists());

    // What the shield drops never comes to be seen by the guard, and is counted all the same.
    let before = refused(&mut enforcer, port);
    let seen = enforcer.seen().unwrap()[&port].clone();
    (0..100).for_each(|_| guest.send(&unknown_frame()));
    assert_eq!(refused(&mut enforcer, port) - before, 100);
    assert_eq!(enforcer.seen().unwrap()[&port], seen, "dropped before the guard");

    drop(enforcer);
    (0..100).for_each(|_| guest.send(&unknown_frame()));
    let mut enforcer = open(&root);
    assert_eq!(interface(&mut enforcer, port).shield, Shield::On, "found again");
    assert_eq!(refused(&mut enforcer, port) - before, 200);

    // The guard is heard where the shield lets frames through.
    let released = isolated(port, flags::GRANTED);
    let observed = [Action::SetMode(Mode::Observe.into()), isolated(port, by_verdict)];
    for actions in [std::slice::from_ref(&released), &observed] {
        carry_out(&mut enforcer, actions);
        guest.send(&unknown_frame());
        assert_ne!(enforcer.seen().unwrap()[&port], seen, "{actions:?}");
    }
    carry_out(&mut enforcer, &[drop_it.clone(), drop_it]);
    assert_eq!((xdp_mode(), pin.exists()), (None, false));
    assert_eq!(interface(&mut enforcer, port).shield, Shield::Off);

    carry_out(&mut enforcer, std::slice::from_ref(&put));
    // Somebody takes it off by force.
    fs::remove_file(&pin).unwrap();
    assert!(enforcer.look_around().unwrap().changed, "noticed");
    assert_eq!(interface(&mut enforcer, port).shield, Shield::Off);
    carry_out(&mut enforcer, &[put, Action::Release { ifindex: port }]);
    assert_eq!((xdp_mode(), pin.exists()), (None, false));
}

#[test]
fn where_no_native_shield_is_possible_there_is_none() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    ip("link add veth0 type veth peer name veth1");
    ip("link add link veth1 name macvtap0 type macvtap");
    let port = ifindex("macvtap0");
    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[guard(port), Action::PutShield { ifindex: port, instance: 1 }]);
    assert_eq!(interface(&mut enforcer, port).shield, Shield::Refused);
    assert!(!run("ip", "-details link show dev macvtap0").contains("xdp"));
    assert!(!PinPaths::new(root.path()).shield(port).exists());
}
