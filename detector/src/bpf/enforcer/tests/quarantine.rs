use super::*;
use crate::bpf::Events;

#[test]
fn a_guest_is_heard_and_its_quarantine_holds_without_a_daemon() {
    let ns = NetNs::enter();
    let root = PinRoot::new();
    let guest = Tap::open("tap0");
    let port = ifindex("tap0");
    let frame = unknown_frame();

    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[Action::SetMode(Mode::Enforce.into()), guard(port)]);
    carry_out(&mut enforcer, &[Action::WriteSlot { ifindex: port, instance: 1, slot: granted() }]);
    let told = ns.block_on(async {
        let mut events = Events::of(enforcer.events().unwrap()).unwrap();
        guest.send(&frame);
        let next = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                let batch = events.next().await.unwrap();
                let own = batch.events.iter().find(|e| e.event.claim.mac == Mac(MAC));
                if let Some(told) = own {
                    return *told;
                }
            }
        });
        next.await.expect("the event comes")
    });
    assert_eq!(told.head(), frame, "it comes with the event");
    let event = told.event;
    assert_eq!((event.ifindex, event.instance, event.dropped), (port, 1, 1));
    assert_eq!(Reason::from_code(event.claim.reason), Some(Reason::EtherTypeUnknown));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let at = enforcer.clock().timestamp(event.at).0;
    assert!(u128::from(at).abs_diff(now.as_millis()) < 5000, "{at} is not now");
    assert_eq!(enforcer.seen().unwrap()[&port][0].claim, event.claim);
    assert!(enforcer.counts(port).unwrap().unwrap().from[&Reason::EtherTypeUnknown] >= 1);

    let target = QuarantineTarget::Mac(Mac(MAC));
    let quarantine = Quarantine::new(target, Timestamp(1), Cause::Operator, 0, "by hand");
    let refused = Inspector::put_quarantine(root.path(), &quarantine).unwrap_err();
    assert!(matches!(refused, BpfError::Locked { .. }), "{refused}");
    drop(enforcer);

    let applied = Inspector::put_quarantine(root.path(), &quarantine).unwrap();
    assert_eq!((applied.record, applied.ports), (true, vec![port]));
    guest.send(&frame);
    let snapshot = Inspector::open(root.path()).unwrap().snapshot().unwrap();
    assert_eq!((snapshot.holder, snapshot.quarantines.as_slice()), (None, &[quarantine][..]));
    let [view] = &snapshot.ports[..] else { panic!("{:?}", snapshot.ports) };
    assert_eq!((view.name.as_deref(), view.guarded), (Some("tap0"), true));
    assert!(view.slot.has(flags::ISOLATED_BY_OPERATOR));
    assert!(view.counts.from[&Reason::PortIsolated] >= 1);
    assert_eq!(view.sightings[0].claim.reason, Reason::PortIsolated as u8);

    let lifted = Inspector::lift_quarantine(root.path(), target).unwrap();
    assert_eq!((lifted.record, lifted.ports), (true, vec![port]));
    let view = Inspector::open(root.path()).unwrap().snapshot().unwrap().ports.remove(0);
    let granted = view.slot.flags & (flags::ISOLATED | flags::GRANTED);
    assert_eq!(granted, flags::GRANTED, "what was in force is in force again");
}

#[test]
fn lifting_one_quarantine_leaves_the_other() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let port = tap("tap0");
    let mut enforcer = open(&root);
    let write = Action::WriteSlot { ifindex: port, instance: 1, slot: granted() };
    carry_out(&mut enforcer, &[guard(port), write]);
    drop(enforcer);

    let targets =
        [QuarantineTarget::Port { ifindex: port, instance: 1 }, QuarantineTarget::Mac(Mac(MAC))];
    for target in targets {
        let quarantine = Quarantine::new(target, Timestamp(1), Cause::Operator, 0, "");
        Inspector::put_quarantine(root.path(), &quarantine).unwrap();
    }
    assert!(Inspector::lift_quarantine(root.path(), targets[0]).unwrap().ports.is_empty());
    let slot = Inspector::open(root.path()).unwrap().snapshot().unwrap().ports[0].slot;
    assert!(slot.has(flags::ISOLATED_BY_OPERATOR));
    let absent = QuarantineTarget::Port { ifindex: port, instance: 9 };
    let quarantine = Quarantine::new(absent, Timestamp(1), Cause::Operator, 0, "");
    let error = Inspector::put_quarantine(root.path(), &quarantine).unwrap_err().to_string();
    assert!(error.contains("no instance 9"), "{error}");
}

#[test]
fn what_the_daemon_has_cut_off_only_the_daemon_lets_back() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let port = tap("tap0");
    let vm = QuarantineTarget::Vm(uuid::Uuid::from_u128(7));
    let verdict = Quarantine::new(vm, Timestamp(1), Cause::Verdict, 0, "a rule");
    let isolated = SlotEntry { flags: flags::ISOLATED, ..SlotEntry::default() };
    let write = Action::WriteSlot { ifindex: port, instance: 1, slot: isolated };
    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[guard(port), Action::PutQuarantine(verdict.clone()), write]);
    drop(enforcer);

    let refused = Inspector::lift_quarantine(root.path(), vm).unwrap_err().to_string();
    assert!(refused.contains("only the daemon can say"), "{refused}");
    assert_eq!(Inspector::open(root.path()).unwrap().quarantines().unwrap(), [verdict]);

    let target = QuarantineTarget::Port { ifindex: port, instance: 1 };
    let by_hand = Quarantine::new(target, Timestamp(1), Cause::Operator, 0, "");
    Inspector::put_quarantine(root.path(), &by_hand).unwrap();
    assert_eq!(Inspector::lift_quarantine(root.path(), target).unwrap().ports, [0; 0]);
    let slot = Inspector::open(root.path()).unwrap().snapshot().unwrap().ports[0].slot;
    assert!(slot.has(flags::ISOLATED), "{slot:?}");
}
