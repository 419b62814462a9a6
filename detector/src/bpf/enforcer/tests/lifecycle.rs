use super::*;

#[test]
fn a_guarded_port_outlives_the_enforcer() {
    for method in methods() {
        let _ns = NetNs::enter();
        let root = PinRoot::new();
        let port = tap("tap0");

        let mut first = open_by(&root, Some(method)).unwrap();
        assert_eq!(first.observe().unwrap(), Observed::default());
        carry_out(&mut first, &[Action::SetMode(Mode::Enforce.into()), guard(port), guard(port)]);
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

/// Of whatever kind they are: the qdisc that they hang on is not ours alone.
#[test]
fn filters_of_others_outlive_ours() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let port = tap("tap0");
    let mut enforcer = open_by(&root, Some(Method::Clsact)).unwrap();
    carry_out(&mut enforcer, &[guard(port)]);
    run("tc", "filter add dev tap0 egress prio 7 protocol all u32 match u32 0 0 flowid 1:1");
    carry_out(&mut enforcer, &[Action::Release { ifindex: port }]);
    assert!(run("tc", "filter show dev tap0 egress").contains("u32"));
    assert_eq!(run("tc", "filter show dev tap0 ingress"), "");
    run("tc", "filter del dev tap0 egress prio 7");
    carry_out(&mut enforcer, &[guard(port), Action::Release { ifindex: port }]);
    assert!(!run("tc", "qdisc show dev tap0").contains("clsact"), "ours goes with the last of it");
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

    if !methods().contains(&Method::Tcx) {
        return;
    }
    let mut enforcer = open_by(&root, Some(Method::Tcx)).unwrap();
    let error = enforcer.execute(&guard(9999)).unwrap_err().to_string();
    assert!(error.contains("port_ingress") && error.contains("no such interface"), "{error}");
    assert_eq!(assert_in_sync(&mut enforcer).interfaces.len(), 0);
    carry_out(&mut enforcer, &[guard(port)]);
}

#[test]
fn a_stamp_that_cannot_be_carried_is_refused() {
    let root = PinRoot::new();
    let cases = [
        (Carrier::Mark, 0xc000_0000, 0),
        (Carrier::Mark, 0xc000_0000, 0x2000_0000),
        (Carrier::TcIndex, 0xc000_0000, 0x4000_0000),
    ];
    for (carrier, mask, value) in cases {
        let stamp = Stamp { carrier, mask, value };
        let options = Options { pins: root.path().to_owned(), stamp, method: None };
        let error = KernelEnforcer::open(&options).err().unwrap().to_string();
        assert!(error.contains("stamp"), "{error}");
        assert!(!root.path().exists());
    }
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

/// Not a test but the process that one kills: it guards `tap0` and waits for its end.
#[test]
#[ignore = "run by the test that kills it"]
fn holder_process() {
    let Some(root) = std::env::var_os(HOLDER_PINS) else { return };
    let options = Options { pins: root.into(), stamp: Stamp::default(), method: None };
    let mut enforcer = KernelEnforcer::open(&options).unwrap();
    let port = ifindex("tap0");
    carry_out(
        &mut enforcer,
        &[
            Action::SetMode(Mode::Enforce.into()),
            guard(port),
            Action::WriteSlot { ifindex: port, instance: 1, slot: granted() },
        ],
    );
    println!("{HOLDING}");
    std::io::read_to_string(std::io::stdin()).unwrap();
}

const HOLDER_PINS: &str = "DETECTOR_TEST_PINS";
const HOLDING: &str = "holding";

#[test]
fn killing_the_process_leaves_the_guard_on() {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let guest = Tap::open("tap0");
    let port = ifindex("tap0");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["holder_process", "--ignored", "--nocapture"])
        .env(HOLDER_PINS, root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(HOLDING)));
    child.kill().unwrap();
    child.wait().unwrap();

    guest.send(&unknown_frame());
    let snapshot = Inspector::open(root.path()).unwrap().snapshot().unwrap();
    assert_eq!(snapshot.holder, None);
    assert!(snapshot.settings.enforces(|| 0) && snapshot.ports[0].guarded);
    assert_eq!(snapshot.ports[0].counts.from[&Reason::EtherTypeUnknown], 1);
    let slot = interface(&mut open(&root), port).slot;
    assert_eq!(slot, snapshot.ports[0].slot);
}
