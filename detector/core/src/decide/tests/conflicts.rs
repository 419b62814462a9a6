//! Invariant 13: where statements contradict each other the strictest holds, and it is a finding.

use detector_common::{addr::Mac, settings::Mode};

use crate::{
    decide::{Decision, PortStatus},
    model::{AddressRule, FindingKind, LinkKind, Nic, NicSettings, PowerState, Subject},
    reconcile::{AddressSet, Identity, InterfacePlan, PortPlan},
    testing::{BRIDGE, Lab},
};

fn granted(decision: &Decision, n: u8) -> Vec<Identity> {
    match &decision.desired.interfaces[&Lab::port(n)].1 {
        InterfacePlan::Guest(PortPlan::Granted(identities)) => identities.clone(),
        _ => Vec::new(),
    }
}

fn conflicts(decision: &Decision) -> Vec<Subject> {
    let findings = decision.findings.iter();
    let conflicts = findings.filter(|finding| finding.key.kind == FindingKind::Conflict);
    conflicts.map(|finding| finding.key.subject.clone()).collect()
}

fn list(nic: &mut Nic, rule: Option<AddressRule>, addresses: &[&str]) {
    nic.rule = rule;
    nic.addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
}

/// The IPv4 networks and VLANs that are granted on the first MAC.
fn described(identities: &[Identity]) -> String {
    let Some(first) = identities.first() else { return "nothing".to_owned() };
    let vlans: Vec<_> = identities.iter().map(|identity| identity.vlan).collect();
    let v4 = match &first.v4 {
        AddressSet::Any => "any".to_owned(),
        AddressSet::Only(nets) => {
            nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
    };
    let roles = if first.dhcp_server { " dhcp" } else { "" };
    format!("{vlans:?} {v4}{roles}")
}

#[test]
fn two_sources_of_one_vm() {
    /// What the two say, what is granted, and whether that is a conflict.
    type Case = (&'static str, fn(&mut Lab), &'static str, bool);
    let cases: &[Case] = &[
        ("the same", |lab| lab.second_opinion(1, |_| ()), "[0] any", false),
        ("no NICs", |lab| lab.second_opinion(1, |vm| vm.nics.clear()), "[0] any", false),
        ("off", |lab| lab.second_opinion(1, |vm| vm.power = PowerState::Off), "nothing", false),
        (
            "off, says the other",
            |lab| {
                lab.vm(1).power = PowerState::Off;
                lab.second_opinion(1, |_| ());
            },
            "nothing",
            false,
        ),
        (
            "one lists addresses",
            |lab| lab.second_opinion(1, |vm| list(&mut vm.nics[0], None, &["192.0.2.1/24"])),
            "[0] 192.0.2.1/32",
            false,
        ),
        (
            "a prefix, and an address in it",
            |lab| {
                list(lab.nic(1), Some(AddressRule::Prefix), &["192.0.2.1/24"]);
                lab.second_opinion(1, |vm| list(&mut vm.nics[0], None, &["192.0.2.1/24"]));
            },
            "[0] 192.0.2.1/32",
            true,
        ),
        (
            "any, and an address",
            |lab| {
                list(lab.nic(1), Some(AddressRule::Any), &[]);
                lab.second_opinion(1, |vm| list(&mut vm.nics[0], None, &["192.0.2.1/24"]));
            },
            "[0] 192.0.2.1/32",
            true,
        ),
        (
            "two addresses",
            |lab| {
                list(lab.nic(1), None, &["192.0.2.1/32"]);
                lab.second_opinion(1, |vm| list(&mut vm.nics[0], None, &["192.0.2.2/32"]));
            },
            "[0] ",
            true,
        ),
        (
            "VLANs that overlap",
            |lab| {
                lab.nic(1).vlans = vec![10, 20];
                lab.second_opinion(1, |vm| vm.nics[0].vlans = vec![20, 30]);
            },
            "[20] any",
            true,
        ),
        (
            "VLANs that do not",
            |lab| {
                lab.nic(1).vlans = vec![10];
                lab.second_opinion(1, |vm| vm.nics[0].vlans = vec![20]);
            },
            "nothing",
            true,
        ),
        (
            "a role",
            |lab| {
                lab.nic(1).dhcp_server = true;
                lab.second_opinion(1, |_| ());
            },
            "[0] any",
            true,
        ),
        (
            "another port",
            |lab| lab.second_opinion(1, |vm| vm.nics[0].port = Some("vnet9".to_owned())),
            "nothing",
            true,
        ),
        (
            "another NIC",
            |lab| lab.second_opinion(1, |vm| vm.nics[0].mac = Lab::mac(9)),
            "nothing",
            true,
        ),
        (
            "another template",
            |lab| {
                lab.vm(1).declared_template = Some("debian-11".to_owned());
                lab.second_opinion(1, |vm| vm.declared_template = Some("debian-12".to_owned()));
            },
            "[0] any",
            true,
        ),
        (
            "a template that its media disprove",
            |lab| lab.vm(1).declared_template = Some("debian-11".to_owned()),
            "[0] any",
            true,
        ),
    ];
    for (name, change, expect, conflict) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 2);
        change(&mut lab);
        let (decision, _) = lab.settle();
        assert_eq!(described(&granted(&decision, 1)), *expect, "{name}");
        let subjects: &[_] = if *conflict { &[Subject::Vm(Lab::uuid(1))] } else { &[] };
        assert_eq!(conflicts(&decision), subjects, "{name}");
        assert_eq!(described(&granted(&decision, 2)), "[0] any", "{name}");
    }
}

#[test]
fn settings_by_mac_narrow_addresses_and_settle_roles() {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.nic(1).router = true;
    let setting = NicSettings {
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
        dhcp_server: Some(true),
        router: Some(false),
        vrrp: Some(false),
        ..NicSettings::default()
    };
    lab.source("inventory.toml").overlays.insert(Lab::mac(1), setting);
    let (decision, _) = lab.settle();
    let identities = granted(&decision, 1);
    assert_eq!(described(&identities), "[0] 192.0.2.1/32 dhcp");
    assert!(!identities[0].router);
    assert_eq!(described(&granted(&decision, 2)), "[0] any");
    assert_eq!(conflicts(&decision), []);
}

/// Two VMs with one MAC: nobody has it, unless one of them had it before the other came.
#[test]
fn one_mac_on_two_vms() {
    let clash = |lab: &mut Lab| lab.nic(2).mac = Lab::mac(1);
    let mut fresh = Lab::with_vms(Mode::Enforce, 3);
    clash(&mut fresh);
    let (decision, _) = fresh.settle();
    let status = |decision: &Decision, n| decision.ports[&Lab::port(n)].status;
    assert_eq!(status(&decision, 1), PortStatus::Pending);
    assert_eq!(status(&decision, 2), PortStatus::Pending);
    assert_eq!(status(&decision, 3), PortStatus::Granted);
    assert_eq!(conflicts(&decision), [Subject::Vm(Lab::uuid(1)), Subject::Vm(Lab::uuid(2))]);

    let mut running = Lab::with_vms(Mode::Enforce, 1);
    running.settle();
    running.add_vm(2);
    clash(&mut running);
    let (decision, _) = running.settle();
    assert_eq!(status(&decision, 1), PortStatus::Granted);
    assert_eq!(status(&decision, 2), PortStatus::Pending);
    assert_eq!(conflicts(&decision), [Subject::Vm(Lab::uuid(2))]);

    // Neither can a VM that has vanished from its source be robbed of what is in force.
    running.manager().vms.remove(&Lab::uuid(1));
    let (decision, actions) = running.settle();
    assert_eq!(actions, []);
    assert_eq!(status(&decision, 1), PortStatus::Kept);
    assert_eq!(status(&decision, 2), PortStatus::Pending);
}

/// A VM that is off, or that nobody approved, contests nothing.
#[test]
fn who_is_not_admitted_contests_nothing() {
    type Case = (&'static str, fn(&mut Lab));
    let cases: &[Case] = &[
        ("off", |lab| lab.vm(2).power = PowerState::Off),
        ("denied", |lab| lab.vm(2).media.clear()),
        ("undecided", |lab| lab.evidence(2, None)),
    ];
    for (name, change) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 2);
        lab.nic(2).mac = Lab::mac(1);
        change(&mut lab);
        let (decision, _) = lab.settle();
        assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Granted, "{name}");
        assert_ne!(decision.ports[&Lab::port(2)].status, PortStatus::Granted, "{name}");
    }
}

#[test]
fn one_port_of_two_vms() {
    type Case = (&'static str, fn(&mut Lab), PortStatus, bool);
    let cases: &[Case] = &[
        ("both approved", |_| (), PortStatus::Pending, true),
        ("one denied", |lab| lab.vm(2).media.clear(), PortStatus::Isolated, true),
        ("one undecided", |lab| lab.evidence(2, None), PortStatus::Pending, true),
        ("one off", |lab| lab.vm(2).power = PowerState::Off, PortStatus::Granted, false),
    ];
    for (name, change, status, conflict) in cases {
        let mut lab = Lab::with_vms(Mode::Observe, 2);
        lab.nic(2).port = Some("vnet1".to_owned());
        change(&mut lab);
        let (decision, _) = lab.settle();
        assert_eq!(decision.ports[&Lab::port(1)].status, *status, "{name}");
        let subject = Subject::Port {
            ifindex: Lab::port(1),
            instance: lab.kernel.slot(Lab::port(1)).instance,
        };
        assert_eq!(conflicts(&decision).contains(&subject), *conflict, "{name}");
    }
}

/// Several MACs behind one port are one VM's several identities.
#[test]
fn several_nics_of_one_vm_may_share_a_port() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    let mut second = lab.nic(1).clone();
    second.mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    lab.vm(1).nics.push(second);
    let (decision, _) = lab.settle();
    let macs: Vec<_> = granted(&decision, 1).iter().map(|identity| identity.mac).collect();
    assert_eq!(macs, [Mac([0x52, 0x54, 0, 0, 0, 1]), Lab::mac(1)]);
    assert_eq!(conflicts(&decision), []);
}

/// The MAC of the bridge, of the uplink or of a port is the host's: a guest that had it would hear what is
/// for the host.
#[test]
fn a_mac_of_the_hosts_is_granted_to_nobody() {
    let cases: &[(&str, LinkKind, Option<u32>, bool)] = &[
        ("bridge", LinkKind::Bridge, None, false),
        ("uplink", LinkKind::Physical, Some(BRIDGE), false),
        ("bond", LinkKind::Other, None, false),
        ("another tap on a bridge", LinkKind::Tap, Some(BRIDGE), false),
        // What it is the other end of, and who uses it, is not known.
        ("a veth on no bridge", LinkKind::Veth, None, true),
        ("its own macvtap", LinkKind::Macvtap, None, true),
    ];
    for (name, kind, master, expect) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        let mac = lab.nic(1).mac;
        lab.link(77, "other0", *kind, *master);
        lab.world.links.get_mut(&77).unwrap().mac = Some(mac);
        let (decision, _) = lab.settle();
        assert_eq!(!granted(&decision, 1).is_empty(), *expect, "{name}");
        let told = decision.findings.iter().any(|finding| {
            finding.key.kind == FindingKind::EntryRejected && finding.title.contains("host's own")
        });
        assert_eq!(told, !expect, "{name}");
    }
}

/// Who only narrows takes away, also from what is granted by default, and gives nothing.
#[test]
fn settings_that_only_narrow() {
    let setting = |rule, addresses: &[&str]| NicSettings {
        rule,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        narrows: true,
        ..NicSettings::default()
    };
    let vlans = |ids: &[u16]| NicSettings { vlans: Some(ids.to_vec()), ..setting(None, &[]) };
    let roles = |role| NicSettings { dhcp_server: role, ..setting(None, &[]) };
    use AddressRule::{Any, Dhcp, Exact, Prefix};
    type Change = fn(&mut Lab);
    let as_it_is: Change = |_| ();
    let listed: Change = |lab| list(lab.nic(1), None, &["192.0.2.1/32", "192.0.2.2/32"]);
    let trunk: Change = |lab| lab.nic(1).vlans = vec![0, 7];
    let server: Change = |lab| lab.nic(1).dhcp_server = true;
    let learning: Change = |lab| lab.world.policy.default_rule = Dhcp;
    let strict: Change = |lab| lab.world.policy.default_rule = Exact;
    // What it says, what there is without it, what is granted, and whether it asks for more.
    let cases = [
        (setting(None, &["192.0.2.1/32"]), as_it_is, "[0] 192.0.2.1/32", false),
        (setting(None, &["192.0.2.1/32"]), listed, "[0] 192.0.2.1/32", false),
        (setting(None, &["192.0.2.1/32", "192.0.2.9/32"]), listed, "[0] 192.0.2.1/32", true),
        (setting(None, &["192.0.2.9/32"]), listed, "[0] ", true),
        (setting(Some(Prefix), &["192.0.2.0/24"]), listed, "[0] 192.0.2.1/32 192.0.2.2/32", true),
        (setting(Some(Any), &[]), as_it_is, "[0] any", false),
        // It is learned still, and only within what is listed.
        (setting(Some(Exact), &["192.0.2.1/32"]), learning, "[0] 192.0.2.1/32", false),
        (setting(Some(Any), &[]), learning, "[0] any", false),
        (setting(Some(Exact), &["192.0.2.1/32"]), strict, "[0] ", true),
        (vlans(&[7]), trunk, "[7] any", false),
        (vlans(&[0, 9]), trunk, "[0] any", true),
        (vlans(&[9]), as_it_is, "nothing", true),
        (roles(Some(true)), as_it_is, "[0] any", false),
        (roles(Some(true)), server, "[0] any dhcp", false),
        (roles(Some(false)), server, "[0] any", false),
    ];
    for (setting, change, expect, more) in cases {
        for by_mac in [false, true] {
            let mut lab = Lab::with_vms(Mode::Enforce, 1);
            change(&mut lab);
            if by_mac {
                lab.source("inventory.toml").overlays.insert(Lab::mac(1), setting.clone());
            } else {
                lab.nic(1).settings.push(setting.clone());
            }
            let (decision, _) = lab.settle();
            let identities = granted(&decision, 1);
            assert_eq!(described(&identities), expect, "{setting:?}");
            let learns = lab.world.policy.default_rule == Dhcp;
            assert!(identities.iter().all(|one| one.learns.is_some() == learns), "{setting:?}");
            assert_eq!(!conflicts(&decision).is_empty(), more, "{setting:?}");
        }
    }
}

#[test]
fn what_nobody_has_to_believe_is_told() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.vm(1).presumed.push("a template".to_owned());
    let (decision, _) = lab.settle();
    assert_eq!(described(&granted(&decision, 1)), "[0] any");
    assert_eq!(conflicts(&decision), [Subject::Vm(Lab::uuid(1))]);
}
