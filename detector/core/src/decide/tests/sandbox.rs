//! Quarantine in the sandbox.

use std::{collections::BTreeSet, net::IpAddr};

use detector_common::{
    learned::OwnerKey,
    port::flags,
    quarantine::{Cause, QuarantineMode},
    settings::Mode,
};

use crate::{
    decide::PortStatus,
    model::{
        AddressRule, FindingKind, LinkKind, Nic, Quarantine, QuarantineTarget, SandboxRules,
        SandboxService, ServiceKind, Shield,
    },
    reconcile::{Action, mapped, reconcile},
    testing::{BRIDGE, Lab, SANDBOX, UNKNOWN},
};

/// What is in force on the port of VM 1.
#[derive(Debug, PartialEq, Eq)]
enum Force {
    Granted,
    Dropped,
    /// In the sandbox, and whether there is a passage.
    Sandboxed(bool),
}

fn force(lab: &Lab) -> Force {
    let held = &lab.kernel.state.interfaces[&Lab::port(1)];
    if held.slot.has(flags::GRANTED) {
        Force::Granted
    } else if held.slot.is_sandboxed() {
        assert!(held.forwarding.is_empty() && held.slot.mac == Lab::mac(1));
        Force::Sandboxed(held.passage.is_some_and(|passage| passage.bridge == SANDBOX))
    } else {
        assert!(held.slot.has(flags::ISOLATED) && held.passage.is_none());
        Force::Dropped
    }
}

fn impose(lab: &mut Lab, target: QuarantineTarget, mode: QuarantineMode) {
    let quarantine = Quarantine::new(target, lab.world.now, Cause::Operator, 0, "").in_mode(mode);
    lab.kernel.apply(&Action::PutQuarantine(quarantine));
}

#[test]
fn who_goes_to_the_sandbox() {
    use QuarantineMode::{Drop, Sandbox};
    type Case = (&'static str, Mode, fn(&mut Lab), Force);
    let vm = || QuarantineTarget::Vm(Lab::uuid(1));
    let by_operator: fn(&mut Lab) = |lab| lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
    let by_verdict: fn(&mut Lab) = |lab| lab.base(1, UNKNOWN);
    let cases: &[Case] = &[
        ("nobody", Mode::Enforce, |_| (), Force::Granted),
        ("by a person", Mode::Enforce, by_operator, Force::Sandboxed(true)),
        ("by a person, observed", Mode::Observe, by_operator, Force::Sandboxed(true)),
        ("by verdict", Mode::Enforce, by_verdict, Force::Sandboxed(true)),
        // The same verdict; it is not carried out, and nothing is made for it.
        ("by verdict, observed", Mode::Observe, by_verdict, Force::Sandboxed(false)),
        (
            "of the two modes the strictest",
            Mode::Enforce,
            |lab| {
                impose(lab, QuarantineTarget::Vm(Lab::uuid(1)), Sandbox);
                impose(lab, QuarantineTarget::Mac(Lab::mac(1)), Drop);
            },
            Force::Dropped,
        ),
        (
            "a port whose VM nobody knows",
            Mode::Enforce,
            |lab| {
                impose(lab, lab.port_target(1), Sandbox);
                lab.manager().vms.remove(&Lab::uuid(1));
            },
            Force::Dropped,
        ),
        (
            "several VMs on a port",
            Mode::Enforce,
            |lab| {
                impose(lab, lab.port_target(1), Sandbox);
                lab.nic(2).port = Some("vnet1".to_owned());
            },
            Force::Dropped,
        ),
    ];
    for (name, mode, change, expect) in cases {
        let mut lab = Lab::with_vms(*mode, 2);
        lab.sandbox();
        lab.settle();
        change(&mut lab);
        let (decision, _) = lab.settle();
        assert_eq!(force(&lab), *expect, "{name}");
        let isolated = decision.ports[&Lab::port(1)].status == PortStatus::Isolated;
        assert_eq!(isolated, *expect != Force::Granted, "{name}");
    }

    // A word of policy changes nothing that is in force.
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.base(1, UNKNOWN);
    lab.settle();
    lab.sandbox();
    lab.settle();
    assert_eq!(force(&lab), Force::Dropped);
    lab.kernel.apply(&Action::LiftQuarantine(vm()));
    lab.settle();
    assert_eq!(force(&lab), Force::Sandboxed(true), "a new one");
}

/// A source that forgets a VM takes its way to the sandbox from nobody; a stricter word does.
#[test]
fn who_is_forgotten_stays_in_the_sandbox() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.sandbox();
    lab.settle();
    lab.quarantine(lab.port_target(1));
    lab.settle();
    assert_eq!(force(&lab), Force::Sandboxed(true));
    lab.manager().vms.clear();
    let (decision, actions) = lab.settle();
    assert_eq!((force(&lab), actions), (Force::Sandboxed(true), vec![]));
    assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Isolated);

    let target = lab.port_target(1);
    impose(&mut lab, target, QuarantineMode::Drop);
    lab.settle();
    assert_eq!(force(&lab), Force::Dropped);
}

/// One that is in the sandbox is to be heard there, however much it sends.
#[test]
fn what_floods_in_the_sandbox_gets_no_shield() {
    for forgotten in [false, true] {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        lab.sandbox();
        lab.settle();
        lab.quarantine(lab.port_target(1));
        lab.settle();
        if forgotten {
            lab.manager().vms.clear();
        }
        lab.floods(1);
        lab.settle();
        let shield = |lab: &Lab| lab.kernel.state.interfaces[&Lab::port(1)].shield;
        assert_eq!((force(&lab), shield(&lab)), (Force::Sandboxed(true), Shield::Off));
        let target = lab.port_target(1);
        impose(&mut lab, target, QuarantineMode::Drop);
        lab.settle();
        assert_eq!((force(&lab), shield(&lab)), (Force::Dropped, Shield::On), "{forgotten}");
    }
}

/// Nothing of what a NIC is granted elsewhere is taken along, and all its MACs are.
#[test]
fn the_sandbox_has_address_rules_of_its_own() {
    use AddressRule::{Any, Dhcp, FirstCome, Prefix};
    use flags::{FIRST_COME, LEARNS, MORE_GRANTS, MORE_PREFIXES, V4, V6};
    const NETS: &[&str] = &["198.51.100.0/24", "2001:db8::/64"];
    let service: IpAddr = "198.51.100.77".parse().unwrap();
    let key = OwnerKey { address: mapped(service), scope: SANDBOX, vlan: 0, pad: 0 };
    let cases: &[(AddressRule, &[&str], u32)] = &[
        (FirstCome, &[], LEARNS | FIRST_COME),
        (FirstCome, NETS, LEARNS | FIRST_COME | MORE_GRANTS | MORE_PREFIXES),
        (Dhcp, &[], LEARNS),
        (Prefix, NETS, V4 | V6),
        (Any, &[], V4 | V6),
    ];
    for (rule, nets, expect) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        lab.sandbox();
        let rules = lab.world.policy.sandbox.as_mut().unwrap();
        rules.rule = *rule;
        rules.addresses = nets.iter().map(|net| net.parse().unwrap()).collect();
        rules.protected = vec![service];
        lab.nic(1).addresses = vec!["192.0.2.1/32".parse().unwrap()];
        (lab.nic(1).dhcp_server, lab.nic(1).router) = (true, true);
        lab.settle();
        assert_eq!(lab.kernel.state.protected, BTreeSet::new(), "{rule:?}: nobody is there");
        lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
        lab.settle();
        let slot = lab.kernel.slot(Lab::port(1));
        let by = flags::ISOLATED | flags::ISOLATED_BY_OPERATOR;
        assert_eq!(slot.flags, expect | by | flags::SANDBOXED, "{rule:?} {nets:?}");
        let learns = expect & LEARNS != 0;
        if learns {
            assert_eq!(slot.scope(), SANDBOX, "{rule:?}");
        } else if !nets.is_empty() {
            assert_eq!((slot.v4, slot.v4_mask), ([198, 51, 100, 0], [255, 255, 255, 0]));
        }
        let protected = |lab: &Lab| lab.kernel.state.protected.contains(&key);
        assert_eq!(protected(&lab), learns, "{rule:?}");

        let second = Nic { mac: Lab::mac(9), ..lab.nic(1).clone() };
        lab.vm(1).nics.push(second);
        lab.settle();
        let held = &lab.kernel.state.interfaces[&Lab::port(1)];
        assert!(held.slot.is_sandboxed() && held.slot.has(MORE_GRANTS));
        let macs = held.grants.iter().filter(|(key, _)| key.address == [0; 16]);
        let roles = flags::DHCP_SERVER | flags::ROUTER;
        assert!(macs.clone().all(|(_, grant)| grant.flags & roles == 0), "{rule:?}");
        assert_eq!(macs.count(), 2, "{rule:?}");

        // Whoever is forgotten there stays as it is, and so does what is kept from it.
        lab.manager().vms.clear();
        lab.settle();
        assert_eq!(protected(&lab), learns, "{rule:?}");
        lab.kernel.apply(&Action::LiftQuarantine(QuarantineTarget::Vm(Lab::uuid(1))));
    }
}

#[test]
fn without_its_bridge_the_sandbox_is_nowhere() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.sandbox();
    lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
    let (decision, _) = lab.settle();
    assert_eq!((force(&lab), decision.findings.len()), (Force::Sandboxed(true), 0));

    lab.world.links.remove(&SANDBOX);
    let (decision, _) = lab.settle();
    assert_eq!(force(&lab), Force::Dropped);
    assert_eq!(decision.findings[0].key.kind, FindingKind::SandboxMissing);

    lab.link(SANDBOX, "sbx0", LinkKind::Bridge, None);
    lab.settle();
    assert_eq!(force(&lab), Force::Sandboxed(true));
    // A bridge that is not what it was is another one.
    lab.world.links.remove(&SANDBOX);
    lab.link(70, "sbx0", LinkKind::Bridge, None);
    lab.settle();
    let passage = lab.kernel.state.interfaces[&Lab::port(1)].passage.unwrap();
    assert_eq!(passage.bridge, 70);
    assert!(lab.world.links.contains_key(&BRIDGE));
}

#[test]
fn the_bridge_is_made_where_that_is_wanted_and_nothing_has_its_name() {
    type Case = (&'static str, fn(&mut Lab), Option<&'static str>);
    let cases: &[Case] = &[
        ("no sandbox", |_| (), None),
        ("not wanted", |lab| lab.world.policy.sandbox = Some(SandboxRules::new("sbx0")), None),
        ("wanted", |lab| lab.world.policy.sandbox = Some(made("sbx0")), Some("sbx0")),
        (
            "there already",
            |lab| {
                lab.sandbox();
                lab.world.policy.sandbox = Some(made("sbx0"));
            },
            None,
        ),
        ("something else", |lab| lab.world.policy.sandbox = Some(made("vnet1")), None),
    ];
    for (name, change, expect) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        change(&mut lab);
        let decision = lab.decide();
        assert_eq!(decision.desired.make_sandbox.as_deref(), *expect, "{name}");
        let made = |action: &Action| matches!(action, Action::MakeSandbox { .. });
        let actions = reconcile(&decision.desired, &lab.kernel.state);
        assert_eq!(
            actions.iter().filter(|action| made(action)).count(),
            usize::from(expect.is_some())
        );
    }
}

fn made(bridge: &str) -> SandboxRules {
    SandboxRules { create: true, ..SandboxRules::new(bridge) }
}

/// What may be reached there is offered before anybody may reach that only, and changes in place.
#[test]
fn what_may_be_reached_is_what_is_named() {
    let named = |port| SandboxService {
        address: "198.51.100.53".parse().unwrap(),
        kind: ServiceKind::Tcp(port),
    };
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.sandbox();
    lab.base(1, UNKNOWN);
    lab.settle();
    for (services, limited) in [
        (None, false),
        (Some(vec![named(443)]), true),
        (Some(vec![named(80), named(443)]), true),
        (Some(vec![named(80)]), true),
        (Some(Vec::new()), true),
        (None, false),
    ] {
        lab.world.policy.sandbox.as_mut().unwrap().services.clone_from(&services);
        let decision = lab.decide();
        let actions = reconcile(&decision.desired, &lab.kernel.state);
        let place = |wanted: fn(&Action) -> bool| actions.iter().position(wanted);
        let slot = place(|action| matches!(action, Action::WriteSlot { .. }));
        let offer = place(|action| matches!(action, Action::OfferServices { .. }));
        let withdraw = place(|action| matches!(action, Action::WithdrawServices { .. }));
        assert!(offer.is_none() || slot.is_none() || offer < slot, "{actions:?}");
        assert!(slot.is_none() || withdraw.is_none() || slot < withdraw, "{actions:?}");
        lab.settle();
        assert_eq!(force(&lab), Force::Sandboxed(true));
        let slot = |number| lab.kernel.state.interfaces[&Lab::port(number)].slot;
        assert_eq!(slot(1).has(flags::LIMITED), limited);
        assert!(!slot(2).has(flags::LIMITED), "of those who are there only");
        let expect = crate::reconcile::services(&services.unwrap_or_default());
        assert_eq!(lab.kernel.state.services, expect);
    }
}
