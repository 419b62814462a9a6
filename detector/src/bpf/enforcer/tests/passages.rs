use detector_common::sandbox;

use super::*;
use crate::enforcer::{Recheck, Tampered};

fn sandboxed(port: u32, instance: u32) -> Action {
    let by = flags::ISOLATED | flags::ISOLATED_BY_OPERATOR;
    let slot =
        SlotEntry { flags: by | flags::SANDBOXED | flags::V4, mac: MAC, ..SlotEntry::default() };
    Action::WriteSlot { ifindex: port, instance, slot }
}

/// Interfaces that are ends of passages.
fn ends() -> Vec<String> {
    let all = crate::net::links().unwrap().into_iter().map(|link| link.name);
    all.filter(|name| name.starts_with("dsb")).collect()
}

#[test]
fn passages_outlive_the_daemon_and_go_with_their_port() {
    for method in methods() {
        a_passage_by(method);
    }
}

fn a_passage_by(method: Method) {
    let open = |root: &PinRoot| open_by(root, Some(method)).unwrap();
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    ip("link add sbx0 type bridge");
    ip("link set sbx0 up");
    let bridge = ifindex("sbx0");
    let (port, other) = (tap("tap0"), tap("tap1"));
    let attach = Action::AttachSandbox { ifindex: bridge, name: "sbx0".to_owned() };
    let open_it = Action::OpenPassage { ifindex: port, instance: 2, bridge };
    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[attach, guard(port), guard(other), sandboxed(port, 2)]);
    assert_eq!(interface(&mut enforcer, bridge).slot.role(), Role::Sandbox);
    carry_out(&mut enforcer, &[open_it.clone(), open_it.clone()]);
    let passage = interface(&mut enforcer, port).passage.unwrap();
    assert_eq!((passage.bridge, ends().len()), (bridge, 2));
    assert!(!enforcer.look_around().unwrap().changed);
    let pinned = PinPaths::new(root.path()).link(passage.inner, Hook::Ingress).exists();
    assert_eq!(pinned, method == Method::Tcx, "a filter needs no pin");

    drop(enforcer);
    // What a crash may have left of another port.
    ip("link add dsbi4711 type veth peer name dsbo4711");
    let mut enforcer = open(&root);
    assert_eq!(interface(&mut enforcer, port).passage, Some(passage), "found again");
    assert_eq!(ends().len(), 2, "and the other one swept away");
    assert_eq!(interface(&mut enforcer, other).passage, None);

    // Whatever of it is damaged, it is closed, to be opened anew.
    let damages: [fn(&KernelEnforcer, u32, u32); 4] = [
        |_, inner, _| ip(&format!("link del {}", name_of(inner))),
        |_, _, port| ip(&format!("link set dsbo{port} nomaster")),
        |_, inner, _| ip(&format!("link set {} name renamed0", name_of(inner))),
        |enforcer, inner, _| {
            let pin = enforcer.pins.paths().link(inner, Hook::Ingress);
            if fs::remove_file(pin).is_err() {
                run("tc", &format!("qdisc del dev {} clsact", name_of(inner)));
            }
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        let inner = interface(&mut enforcer, port).passage.unwrap().inner;
        damage(&enforcer, inner, port);
        assert!(enforcer.look_around().unwrap().changed, "damage {number}");
        assert_eq!(interface(&mut enforcer, port).passage, None);
        assert!(enforcer.maps.passage(port).unwrap().is_none());
        carry_out(&mut enforcer, std::slice::from_ref(&open_it));
        // The bridge has a new port, which is a change as well.
        enforcer.observe().unwrap();
        assert!(!enforcer.look_around().unwrap().changed, "damage {number}");
    }

    // What somebody does to the map is undone, and the passage stays open.
    let inner = interface(&mut enforcer, port).passage.unwrap().inner;
    let astray = sandbox::Passage { peer: other, instance: 2 };
    type Crime<'a> = &'a dyn Fn(&mut KernelEnforcer);
    let crimes: [(Crime<'_>, u32); 4] = [
        (&|it| it.maps.drop_passage(port).unwrap(), port),
        (&|it| it.maps.put_passage(port, astray).unwrap(), port),
        (&|it| it.maps.drop_passage(inner).unwrap(), port),
        (&|it| it.maps.put_passage(other, astray).unwrap(), other),
    ];
    let whole = enforcer.maps.passages().unwrap();
    for (number, (crime, of)) in crimes.into_iter().enumerate() {
        crime(&mut enforcer);
        let Recheck { tampering, .. } = enforcer.look_around().unwrap();
        let told: Vec<_> = tampering.iter().map(|one| (one.port.unwrap().0, one.what)).collect();
        assert_eq!(told, [(of, Tampered::Passages)], "crime {number}");
        assert_eq!(enforcer.maps.passages().unwrap(), whole, "crime {number}");
        assert_eq!(interface(&mut enforcer, port).passage.unwrap().inner, inner, "crime {number}");
    }

    let refused = Action::OpenPassage { ifindex: port, instance: 9, bridge };
    enforcer.execute(&refused).unwrap_err();
    let nowhere = Action::OpenPassage { ifindex: port, instance: 2, bridge: 9999 };
    enforcer.execute(&nowhere).unwrap_err();
    assert!(ends().is_empty(), "{:?}", ends());
    carry_out(&mut enforcer, &[open_it, Action::Release { ifindex: port }]);
    assert!(ends().is_empty() && enforcer.maps.passages().unwrap().is_empty());
    let links: Vec<_> = fs::read_dir(PinPaths::new(root.path()).links()).unwrap().collect();
    let left = if method == Method::Tcx { 4 } else { 0 };
    assert_eq!(links.len(), left, "the pins of the bridge and the other tap are left: {links:?}");
    assert_eq!(interface(&mut enforcer, other).slot.ifindex, other);
}

#[test]
fn a_port_that_dies_while_the_daemon_does_leaves_nothing() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    ip("link add sbx0 type bridge");
    let port = tap("tap0");
    let mut enforcer = open(&root);
    let open_it = Action::OpenPassage { ifindex: port, instance: 1, bridge: ifindex("sbx0") };
    carry_out(&mut enforcer, &[guard(port), sandboxed(port, 1), open_it]);
    assert_eq!(ends().len(), 2);
    drop(enforcer);
    ip("link del tap0");
    let mut enforcer = open(&root);
    assert!(enforcer.observe().unwrap().interfaces.is_empty());
    assert!(ends().is_empty() && enforcer.maps.passages().unwrap().is_empty());
    let links = fs::read_dir(PinPaths::new(root.path()).links()).unwrap();
    assert_eq!(links.count(), 0);
}

fn name_of(ifindex: u32) -> String {
    crate::net::link_by_index(ifindex).unwrap().unwrap().name
}

#[test]
fn the_bridge_of_the_sandbox_is_made_once_and_says_nothing() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let mut enforcer = open_by(&root, None).unwrap();
    let make = |name: &str| Action::MakeSandbox { name: name.to_owned() };
    carry_out(&mut enforcer, &[make("sbx0")]);
    let made = ifindex("sbx0");
    carry_out(&mut enforcer, &[make("sbx0")]);
    assert_eq!(ifindex("sbx0"), made, "one that is there stays");
    let link = link_by_name("sbx0").unwrap().unwrap();
    assert_eq!(link.kind, detector_core::model::LinkKind::Bridge);
    // What has the name and is none stays what it is.
    ip("link add taken type veth peer name other");
    assert!(enforcer.execute(&make("taken")).is_err());
}
