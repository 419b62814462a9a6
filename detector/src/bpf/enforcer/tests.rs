use std::{fs, time::Duration};

use aya::maps::{Array, MapData};
use detector_common::{
    addr::{Address, Mac},
    maps::{self, PORT_SLOTS},
    port::{GrantKey, Role, flags},
    quarantine::Cause,
    reason::Reason,
    settings::Mode,
};
use detector_core::{
    model::{Observed, ObservedInterface, Quarantine, QuarantineTarget, Timestamp},
    reconcile::{Action, GrantEntry, SlotEntry},
};

use super::{
    KernelEnforcer, Options, Stamp,
    testing::{PinRoot, Tap},
};
use crate::{
    bpf::{BpfError, Hook, Inspector, Method, PinPaths},
    enforcer::Enforcer,
    net::{
        link_by_name,
        testing::{NetNs, ip, run},
    },
};

/// The enforcer may be driven from a thread of its own.
const fn is_send<T: Send>() {}
const _: () = is_send::<KernelEnforcer>();

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

fn open_by(root: &PinRoot, method: Option<Method>) -> Result<KernelEnforcer, BpfError> {
    let pins = root.path().to_owned();
    KernelEnforcer::open(&Options { pins, stamp: Stamp::default(), method })
}

fn open(root: &PinRoot) -> KernelEnforcer {
    open_by(root, None).unwrap()
}

fn ifindex(name: &str) -> u32 {
    link_by_name(name).unwrap().unwrap().ifindex
}

fn tap(name: &str) -> u32 {
    ip(&format!("tuntap add {name} mode tap"));
    ifindex(name)
}

fn guard(ifindex: u32) -> Action {
    Action::AttachGuard { ifindex, name: format!("test {ifindex}") }
}

fn granted() -> SlotEntry {
    SlotEntry {
        flags: flags::GRANTED | flags::V4,
        mac: MAC,
        v4: [192, 0, 2, 7],
        v4_mask: [255; 4],
        ..SlotEntry::default()
    }
}

fn carry_out(enforcer: &mut KernelEnforcer, actions: &[Action]) {
    for action in actions {
        enforcer.execute(action).unwrap_or_else(|error| panic!("{action:?}: {error}"));
    }
}

fn interface(enforcer: &mut KernelEnforcer, ifindex: u32) -> ObservedInterface {
    enforcer.observe().unwrap().interfaces.remove(&ifindex).expect("it has a slot")
}

/// What the mirror says is what the kernel holds.
fn assert_in_sync(enforcer: &mut KernelEnforcer) -> Observed {
    let mirror = enforcer.observe().unwrap();
    enforcer.resync().unwrap();
    assert_eq!(enforcer.observe().unwrap(), mirror);
    mirror
}

#[test]
fn a_guarded_port_outlives_the_enforcer() {
    for method in [Method::Tcx, Method::Clsact] {
        let _ns = NetNs::enter();
        let root = PinRoot::new();
        let port = tap("tap0");

        let mut first = open_by(&root, Some(method)).unwrap();
        assert_eq!(first.observe().unwrap(), Observed::default());
        carry_out(&mut first, &[Action::SetMode(Mode::Enforce), guard(port), guard(port)]);
        let mute = interface(&mut first, port);
        assert_eq!((mute.slot.instance, mute.slot.id, mute.slot.flags), (1, 0, 0));
        assert_eq!(mute.slot.role(), Role::Guest);
        let instance = mute.slot.instance;
        carry_out(&mut first, &[Action::WriteSlot { ifindex: port, instance, slot: granted() }]);
        let before = assert_in_sync(&mut first);
        drop(first);

        ip("link set tap0 name renamed");
        let mut second = open_by(&root, Some(method)).unwrap();
        assert_eq!(second.observe().unwrap(), before, "{method:?}");
        carry_out(&mut second, &[guard(port)]);
        assert_eq!(second.observe().unwrap(), before, "{method:?}");

        carry_out(&mut second, &[Action::Release { ifindex: port }]);
        carry_out(&mut second, &[Action::Release { ifindex: port }]);
        assert_eq!(assert_in_sync(&mut second).interfaces.len(), 0);
        for hook in Hook::BOTH {
            assert!(!PinPaths::new(root.path()).link(port, hook).exists());
        }
        carry_out(&mut second, &[guard(port)]);
        let again = interface(&mut second, port).slot;
        assert_eq!((again.instance, again.id, again.flags), (2, 0, 0), "nothing is inherited");
    }
}

#[test]
fn an_index_that_comes_again_is_another_port() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    ip("link add port0 index 77 type veth peer name far0");
    let mut first = open(&root);
    carry_out(
        &mut first,
        &[guard(77), Action::WriteSlot { ifindex: 77, instance: 1, slot: granted() }],
    );
    drop(first);

    ip("link del port0");
    ip("link add port0 index 77 type veth peer name far0");
    let mut second = open(&root);
    assert_eq!(second.observe().unwrap().interfaces.len(), 0);
    carry_out(&mut second, &[guard(77)]);
    let slot = interface(&mut second, 77).slot;
    assert_eq!((slot.instance, slot.flags, slot.mac), (2, 0, Mac::ZERO));
    let stale = Action::WriteSlot { ifindex: 77, instance: 1, slot: granted() };
    let error = second.execute(&stale).unwrap_err().to_string();
    assert!(error.contains("instance 2"), "{error}");

    // The same while it runs.
    ip("link del port0");
    ip("link add port0 index 77 type veth peer name far0");
    assert_eq!(second.observe().unwrap().interfaces.len(), 0);
    carry_out(&mut second, &[guard(77)]);
    assert_eq!(interface(&mut second, 77).slot.instance, 3);
}

#[test]
fn a_port_that_moves_to_another_namespace_is_not_ours() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    ip("link add port0 index 77 type veth peer name far0");
    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[guard(77)]);
    let mut elsewhere =
        std::process::Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap();
    let moved = (0..200).any(|_| {
        let target = format!("link set port0 netns {}", elsewhere.id());
        ip("link show");
        let status = std::process::Command::new("ip").args(target.split(' ')).status().unwrap();
        status.success() && link_by_name("port0").unwrap().is_none()
    });
    assert!(moved);
    assert_eq!(enforcer.observe().unwrap().interfaces.len(), 0);
    elsewhere.kill().unwrap();
    elsewhere.wait().unwrap();
}

#[test]
fn grants_and_forwarding_are_mirrored_and_released() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    ip("link add br0 type bridge");
    let port = tap("tap0");
    ip("link set tap0 master br0 up");
    let entry = |last: u8, prefix| GrantEntry {
        mac: MAC,
        vlan: 0,
        address: Address::mapped([192, 0, 2, last]).bytes(),
        prefix,
        flags: 0,
    };
    let grants = vec![entry(1, None), entry(2, None), entry(128, Some(96 + 25))];
    let put = Action::PutGrants { ifindex: port, instance: 1, grants: grants.clone() };
    let pin = |vlan| Action::PinForwarding { ifindex: port, mac: Mac(MAC), vlan };
    let tagged = GrantEntry { vlan: 10, address: [0; 16], ..entry(0, None) };
    let more = Action::PutGrants { ifindex: port, instance: 1, grants: vec![tagged] };

    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[guard(port), put.clone(), put]);
    carry_out(
        &mut enforcer,
        &[Action::WriteSlot { ifindex: port, instance: 1, slot: granted() }, pin(0), pin(0)],
    );
    let observed = interface(&mut enforcer, port);
    assert_eq!((observed.grants.len(), observed.prefixes.len()), (2, 1));
    assert_eq!(observed.forwarding, [(Mac(MAC), 0)].into());
    assert_in_sync(&mut enforcer);
    drop(enforcer);
    let mut enforcer = open(&root);
    assert_eq!(interface(&mut enforcer, port), observed);

    // A MAC on a VLAN only, on a bridge that filters none.
    let slot = SlotEntry { vlan: 10, ..granted() };
    let unpin = Action::UnpinForwarding { ifindex: port, mac: Mac(MAC), vlan: 0 };
    let drop_grants = Action::DropGrants { ifindex: port, instance: 1, grants };
    carry_out(
        &mut enforcer,
        &[
            Action::WriteSlot { ifindex: port, instance: 1, slot },
            more,
            drop_grants,
            unpin,
            pin(10),
        ],
    );
    assert_eq!(interface(&mut enforcer, port).forwarding, [(Mac(MAC), 10)].into());
    assert_in_sync(&mut enforcer);

    // The two share an entry, which stays while one of them is left.
    carry_out(&mut enforcer, &[pin(0), pin(10)]);
    let unpin = |vlan| Action::UnpinForwarding { ifindex: port, mac: Mac(MAC), vlan };
    for vlan in [0, 10] {
        assert!(run("bridge", "fdb show dev tap0").contains("sticky"));
        carry_out(&mut enforcer, &[unpin(vlan), unpin(vlan)]);
    }
    assert!(!run("bridge", "fdb show dev tap0").contains("sticky"));
    carry_out(&mut enforcer, &[pin(10)]);

    // Leaving and joining the bridge loses the entry.
    ip("link set tap0 nomaster");
    ip("link set tap0 master br0");
    assert!(interface(&mut enforcer, port).forwarding.is_empty());
    carry_out(&mut enforcer, &[pin(10), Action::Release { ifindex: port }]);
    assert!(!run("bridge", "fdb show dev tap0").contains("sticky"));
    assert!(enforcer.maps.grants().unwrap().is_empty());
    assert!(enforcer.maps.prefixes().unwrap().is_empty());
}

#[test]
fn interfaces_that_share_a_place_do_not_share_a_slot() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let (low, high) = (77, 77 + PORT_SLOTS);
    ip(&format!("link add low index {low} type veth peer name low1"));
    ip(&format!("link add high index {high} type veth peer name high1"));
    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[guard(low), guard(high)]);
    assert_eq!(assert_in_sync(&mut enforcer).interfaces.len(), 2);
    // Freeing the one leaves the other where it is, and a verdict reaches it there.
    carry_out(
        &mut enforcer,
        &[
            Action::Release { ifindex: low },
            Action::WriteSlot { ifindex: high, instance: 2, slot: granted() },
        ],
    );
    assert_eq!(assert_in_sync(&mut enforcer).interfaces.len(), 1);
    carry_out(&mut enforcer, &[guard(low), Action::Release { ifindex: high }]);
    let left = assert_in_sync(&mut enforcer).interfaces;
    assert_eq!(left.keys().collect::<Vec<_>>(), [&low]);
    assert_eq!(left[&low].slot.id, 0);
}

#[test]
fn every_role_is_taken_on_and_kept() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    for (index, name) in [(70, "up"), (71, "tr")] {
        ip(&format!("link add {name}0 index {index} type veth peer name {name}1"));
    }
    ip("link add br0 index 72 type bridge");
    let mut enforcer = open(&root);
    let uplink = Action::AttachUplink { ifindex: 70, name: "up0".into() };
    let trust = Action::Trust { ifindex: 71, name: "tr0".into() };
    let bridge = Action::AttachBridge { ifindex: 72, name: "br0".into() };
    carry_out(&mut enforcer, &[uplink.clone(), trust.clone(), bridge, trust]);
    let before = assert_in_sync(&mut enforcer);
    let roles: Vec<_> = before.interfaces.values().map(|i| i.slot.role()).collect();
    assert_eq!(roles, [Role::Uplink, Role::Trusted, Role::Bridge]);
    drop(enforcer);
    let mut enforcer = open(&root);
    assert_eq!(enforcer.observe().unwrap().interfaces, before.interfaces);
    carry_out(&mut enforcer, &[Action::Trust { ifindex: 70, name: "up0".into() }]);
    assert_eq!(interface(&mut enforcer, 70).slot.role(), Role::Trusted);
    assert!(!PinPaths::new(root.path()).link(70, Hook::Ingress).exists());
    ip("link del tr0");
    assert_eq!(enforcer.observe().unwrap().interfaces.len(), 2);
}

#[test]
fn what_cannot_be_attached_leaves_nothing() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let port = tap("tap0");
    run("tc", "qdisc add dev tap0 ingress");
    let mut enforcer = open_by(&root, Some(Method::Clsact)).unwrap();
    let error = enforcer.execute(&guard(port)).unwrap_err().to_string();
    for part in ["tap0", "ingress", "tc qdisc del"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = enforcer.execute(&guard(9999)).unwrap_err().to_string();
    assert!(error.contains("9999"), "{error}");
    assert_eq!(assert_in_sync(&mut enforcer).interfaces.len(), 0);
    assert!(run("tc", "qdisc show dev tap0").contains("ingress"), "it is not ours to remove");
    drop(enforcer);

    let mut enforcer = open_by(&root, Some(Method::Tcx)).unwrap();
    let error = enforcer.execute(&guard(9999)).unwrap_err().to_string();
    assert!(error.contains("port_ingress") && error.contains("no such interface"), "{error}");
    assert_eq!(assert_in_sync(&mut enforcer).interfaces.len(), 0);
    carry_out(&mut enforcer, &[guard(port)]);
}

#[test]
fn a_second_daemon_and_a_foreign_map_are_refused() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let port = tap("tap0");
    let mut first = open(&root);
    carry_out(&mut first, &[guard(port)]);
    let error = open_by(&root, None).err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    let before = first.observe().unwrap();
    drop(first);

    let path = PinPaths::new(root.path()).map(maps::SETTINGS);
    let aside = path.with_file_name("aside");
    fs::rename(&path, &aside).unwrap();
    Array::<MapData, u64>::create(1, 0).unwrap().pin(&path).unwrap();
    let error = open_by(&root, None).err().unwrap().to_string();
    assert!(error.contains("SETTINGS") && error.contains("value 8 bytes"), "{error}");
    fs::rename(&aside, &path).unwrap();
    assert_eq!(open(&root).observe().unwrap().interfaces, before.interfaces);
}

#[test]
fn a_guest_is_heard_and_its_quarantine_holds_without_a_daemon() {
    let ns = NetNs::enter();
    let root = PinRoot::new();
    let guest = Tap::open("tap0");
    let port = ifindex("tap0");
    let mut frame = vec![0xff; 6];
    frame.extend(MAC);
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0);

    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[Action::SetMode(Mode::Enforce), guard(port)]);
    carry_out(&mut enforcer, &[Action::WriteSlot { ifindex: port, instance: 1, slot: granted() }]);
    let event = ns.block_on(async {
        let mut events = enforcer.events().unwrap();
        guest.send(&frame);
        let next = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                let batch = events.next().await.unwrap();
                let own = batch.events.iter().find(|e| e.claim.mac == Mac(MAC));
                if let Some(event) = own {
                    return *event;
                }
            }
        });
        next.await.expect("the event comes")
    });
    assert_eq!((event.ifindex, event.instance, event.dropped), (port, 1, 1));
    assert_eq!(Reason::from_code(event.claim.reason), Some(Reason::EtherTypeUnknown));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let at = enforcer.clock().timestamp(event.at).0;
    assert!(u128::from(at).abs_diff(now.as_millis()) < 5000, "{at} is not now");
    assert_eq!(enforcer.seen().unwrap()[&port][0].claim, event.claim);
    assert!(enforcer.totals(port).unwrap().unwrap().from[&Reason::EtherTypeUnknown] >= 1);

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
    assert!(view.totals.from[&Reason::PortIsolated] >= 1);
    assert_eq!(view.sightings[0].claim.reason, Reason::PortIsolated as u8);

    let lifted = Inspector::lift_quarantine(root.path(), target).unwrap();
    assert_eq!((lifted.record, lifted.ports), (true, vec![port]));
    let view = Inspector::open(root.path()).unwrap().snapshot().unwrap().ports.remove(0);
    assert_eq!(view.slot.flags & (flags::ISOLATED | flags::GRANTED), 0, "lifting never grants");
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
fn grants_of_an_instance_that_is_no_more_are_dropped() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let mut enforcer = open(&root);
    let key = GrantKey { ifindex: 5, instance: 9, mac: Mac(MAC), vlan: 0, address: [0; 16] };
    enforcer.maps.put_grant(key, Default::default()).unwrap();
    enforcer.resync().unwrap();
    assert!(enforcer.maps.grants().unwrap().is_empty());
}
