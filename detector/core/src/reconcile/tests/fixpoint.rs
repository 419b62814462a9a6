use detector_common::{
    port::{Role, flags},
    settings::Mode,
};

use crate::{
    model::{AddressRule, LinkKind, ModeScope, PowerState, QuarantineTarget},
    testing::{BRIDGE, Lab, MINUTE, REVOKED, SANDBOX, UNKNOWN, UPLINK},
};

type Change = (&'static str, fn(&mut Lab));

/// Worlds, each a change of one with five VMs.
const WORLDS: &[Change] = &[
    ("as it is", |_| ()),
    ("observe", |lab| lab.switch(Mode::Observe)),
    ("enforce", |lab| lab.switch(Mode::Enforce)),
    ("an observed bridge", |lab| lab.rule(ModeScope::Bridge("br*".to_owned()), Mode::Observe)),
    ("an observed VM", |lab| lab.rule(ModeScope::Vm("vm2".to_owned()), Mode::Observe)),
    ("no links", |lab| lab.world.links.clear()),
    ("no sources", |lab| lab.world.sources.clear()),
    ("lost", Lab::lose),
    ("nothing approved", |lab| lab.world.registry.templates.clear()),
    ("one rogue", |lab| lab.base(2, UNKNOWN)),
    ("one revoked", |lab| lab.base(3, REVOKED)),
    ("one off", |lab| lab.vm(4).power = PowerState::Off),
    ("one undecided", |lab| lab.evidence(5, None)),
    ("one gone", |lab| drop(lab.world.links.remove(&Lab::port(1)))),
    ("one more", |lab| lab.add_vm(6)),
    ("addresses", |lab| {
        lab.nic(1).addresses = ["192.0.2.1/24", "192.0.2.2/32", "2001:db8::1/64"]
            .map(|text| text.parse().unwrap())
            .into();
    }),
    ("prefixes", |lab| {
        lab.nic(1).rule = Some(AddressRule::Prefix);
        lab.nic(1).addresses =
            ["192.0.2.1/24", "198.51.100.0/24", "2001:db8::1/64", "2001:db8::/48"]
                .map(|text| text.parse().unwrap())
                .into();
    }),
    ("trunk", |lab| lab.nic(2).vlans = vec![20, 0, 10, 10]),
    ("two MACs on a port", |lab| {
        let nic = lab.vm(3).nics[0].clone();
        lab.vm(3).nics.push(crate::model::Nic { mac: Lab::mac(33), dhcp_server: true, ..nic });
    }),
    ("contested", |lab| lab.nic(4).mac = Lab::mac(5)),
    ("a MAC that moves", |lab| {
        lab.nic(1).mac = Lab::mac(2);
        lab.nic(2).mac = Lab::mac(1);
    }),
    ("quarantined VM", |lab| lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)))),
    ("quarantined MAC", |lab| lab.quarantine(QuarantineTarget::Mac(Lab::mac(2)))),
    ("a flood", |lab| lab.floods(1)),
    ("a flood of a quarantined VM", |lab| {
        lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
        lab.floods(1);
    }),
    ("in Open vSwitch", |lab| {
        lab.link(BRIDGE, "ovs-system", LinkKind::OpenVSwitch, None);
        lab.link(71, "ovs0", LinkKind::OpenVSwitch, None);
    }),
    ("on a device", |lab| lab.macvtap(1, LinkKind::Macvtap)),
    ("on a device, reflected", |lab| lab.macvtap(1, LinkKind::MacvtapVepa)),
    ("on a closed device", |lab| {
        lab.macvtap(1, LinkKind::Macvtap);
        lab.world.policy.closed_devices = vec!["eth*".to_owned()];
        lab.world.policy.known_senders = vec![Lab::mac(99)];
    }),
    ("a sandbox", |lab| {
        lab.sandbox();
        lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
        lab.base(2, UNKNOWN);
    }),
    ("a sandbox with two MACs on a port", |lab| {
        lab.sandbox();
        lab.quarantine(QuarantineTarget::Vm(Lab::uuid(3)));
        let nic = lab.vm(3).nics[0].clone();
        lab.vm(3).nics.push(crate::model::Nic { mac: Lab::mac(33), vlans: vec![0, 7], ..nic });
    }),
    ("the sandbox is gone", |lab| drop(lab.world.links.remove(&SANDBOX))),
    ("an uplink that becomes trusted", |lab| {
        lab.link(UPLINK, "eth0", LinkKind::Physical, None);
    }),
    ("a port that becomes an uplink", |lab| lab.world.policy.uplinks = vec!["vnet3".to_owned()]),
    ("a bridge out of scope", |lab| lab.world.policy.bridges = vec!["!*".to_owned()]),
    ("a new port", |lab| lab.link(90, "veth9", LinkKind::Veth, Some(BRIDGE))),
    ("another life", |lab| lab.kernel.forget(Lab::port(2))),
    ("later", |lab| lab.pass(120 * MINUTE)),
];

/// From each world to each other: it comes to rest, and a restart over the same world, with nothing
/// in memory but what the kernel holds, has nothing to do.
#[test]
fn every_world_comes_to_rest() {
    for mode in [Mode::Observe, Mode::Enforce] {
        for (from, first) in WORLDS {
            let mut start = Lab::with_vms(mode, 5);
            first(&mut start);
            start.settle();
            for (to, second) in WORLDS {
                if from == to {
                    continue;
                }
                // Some changes need what an earlier one took away.
                let needs_source = start.world.sources.is_empty();
                let mut lab = start.clone();
                if needs_source {
                    lab.world.sources = Lab::with_vms(mode, 5).world.sources;
                }
                second(&mut lab);
                lab.settle();
                let (_, again) = lab.settle();
                assert_eq!(again, [], "{from} → {to}");
            }
        }
    }
}

/// Whatever came before, a settled kernel holds no grant, entry or pin that no decision asks for.
#[test]
fn nothing_is_left_behind() {
    for (name, change) in WORLDS {
        let mut lab = Lab::with_vms(Mode::Enforce, 5);
        lab.nic(1).addresses =
            vec!["192.0.2.1/32".parse().unwrap(), "192.0.2.2/32".parse().unwrap()];
        lab.settle();
        change(&mut lab);
        lab.settle();
        for (ifindex, held) in &lab.kernel.state.interfaces {
            let lists = held.slot.role() == Role::ClosedDevice;
            let granted = held.slot.has(flags::GRANTED) || held.slot.is_sandboxed() || lists;
            let bare = held.grants.is_empty() && held.prefixes.is_empty();
            assert!(granted || (bare && held.forwarding.is_empty()), "{name}: {ifindex}");
            assert_eq!(held.slot.has(flags::MORE_GRANTS), !held.grants.is_empty(), "{name}");
            assert_eq!(held.slot.has(flags::MORE_PREFIXES), !held.prefixes.is_empty(), "{name}");
            let pinned = !held.forwarding.is_empty();
            let has_entries = !held.slot.has(flags::SWITCHED);
            let wanted = held.slot.has(flags::GRANTED) && has_entries;
            assert_eq!(wanted, pinned, "{name}: {ifindex}");
            assert!(held.slot.is_sandboxed() || held.passage.is_none(), "{name}: {ifindex}");
            assert!(lab.world.links.contains_key(ifindex), "{name}: {ifindex} is gone");
        }
    }
}

#[test]
fn a_first_run_and_a_restart() {
    let mut lab = Lab::with_vms(Mode::Enforce, 3);
    let (_, actions) = lab.settle();
    assert!(!actions.is_empty());
    assert_eq!(lab.kernel.slot(BRIDGE).role(), Role::Bridge);
    assert_eq!(lab.kernel.slot(UPLINK).role(), Role::Uplink);
    assert_eq!(lab.kernel.mode(), Some(Mode::Enforce));
    let (_, again) = lab.settle();
    assert_eq!(again, []);
}
