use detector_common::{maps::MAX_GRANTS, port::Grant};

use super::*;

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
fn grants_of_an_instance_that_is_no_more_are_dropped() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let mut enforcer = open(&root);
    let key = GrantKey { ifindex: 5, instance: 9, mac: Mac(MAC), vlan: 0, address: [0; 16] };
    enforcer.maps.put_grants(&[(key, Default::default())]).unwrap();
    enforcer.resync().unwrap();
    assert!(enforcer.maps.grants().unwrap().is_empty());
}

/// Grants that find no room: what was in force stays, and of the others the kernel has none.
#[test]
fn grants_that_are_put_in_part_are_taken_back() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    let port = tap("tap0");
    let entry = |last: u8, flags| GrantEntry {
        mac: MAC,
        vlan: 0,
        address: Address::mapped([192, 0, 2, last]).bytes(),
        prefix: None,
        flags,
    };
    let put = |grants| Action::PutGrants { ifindex: port, instance: 1, grants };
    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[guard(port), put(vec![entry(1, 0)])]);

    // Somebody else's, up to one place that is left.
    let other = |number: u32| GrantKey {
        ifindex: port + 1,
        instance: 9,
        mac: Mac(MAC),
        vlan: 0,
        address: Address::mapped(number.to_be_bytes()).bytes(),
    };
    let others: Vec<_> = (2..MAX_GRANTS).map(|number| (other(number), Grant::default())).collect();
    enforcer.maps.put_grants(&others).unwrap();
    let more = vec![entry(1, flags::V4), entry(2, 0), entry(3, 0), entry(4, 0)];
    let error = enforcer.execute(&put(more)).unwrap_err().to_string();
    assert!(error.contains(maps::GRANTS), "{error}");

    let mut held = enforcer.maps.grants().unwrap();
    held.retain(|key, _| key.ifindex == port);
    assert_eq!(held, interface(&mut enforcer, port).grants, "the record knows all there is");
    let expect = GrantKey { address: entry(1, 0).address, ifindex: port, instance: 1, ..other(0) };
    assert_eq!(held, [(expect, Grant::default())].into(), "what was in force, as it was");
}
