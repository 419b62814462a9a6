//! What a port claims: told of without a new decision, and as one finding while it floods.

use std::net::IpAddr;

use detector_common::{learned::Origin, reason::Reason, settings::Mode};

use crate::{
    decide::{OF_CLAIMS, decide, findings_of_port, kind_of_claim},
    model::{AddressRule, Finding, FindingKind, Learned, LinkKind, Severity, Subject},
    testing::{BRIDGE, Lab, MINUTE, UNKNOWN},
};

/// Two VMs, of which the second learns.
fn lab() -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, 3);
    lab.nic(1).addresses = vec!["192.0.2.1/32".parse().unwrap()];
    lab.nic(2).rule = Some(AddressRule::FirstCome);
    lab.settle();
    lab
}

fn claims_of_all_kinds(lab: &mut Lab) {
    lab.sees(1, Lab::mac(3), None, Reason::MacNotGranted);
    lab.sees(1, Lab::mac(9), None, Reason::MacNotGranted);
    lab.sees(1, Lab::mac(1), Some([192, 0, 2, 7]), Reason::Ipv4Source);
    lab.sees(1, Lab::mac(1), Some([192, 0, 2, 1]), Reason::Ipv4Source);
    lab.sees(2, Lab::mac(2), Some([192, 0, 2, 30]), Reason::AddressTaken);
    lab.sees(2, Lab::mac(2), Some([192, 0, 2, 31]), Reason::LearnedFull);
    lab.sees(2, Lab::mac(2), Some([192, 0, 2, 32]), Reason::AddressTaken);
}

/// What a claim is told of with at once is what a decision on the whole host would tell.
#[test]
fn the_findings_of_a_port_are_those_of_a_new_decision() {
    type Case = (&'static str, fn(&mut Lab));
    let cases: &[Case] = &[
        ("granted", |_| ()),
        ("flooding", |lab| {
            lab.floods(1);
            lab.floods(2);
        }),
        ("denied", |lab| lab.base(1, UNKNOWN)),
        ("kept", |lab| lab.manager().vms.clear()),
        ("one MAC, two VMs", |lab| lab.nic(3).mac = Lab::mac(1)),
        ("claimed long ago", |lab| {
            claims_of_all_kinds(lab);
            lab.pass(10 * MINUTE);
        }),
        ("another life", |lab| {
            claims_of_all_kinds(lab);
            lab.kernel.forget(Lab::port(1));
        }),
        ("learned since", |lab| {
            let own = Learned {
                instance: lab.kernel.slot(Lab::port(2)).instance,
                scope: BRIDGE,
                mac: Lab::mac(2),
                vlan: 0,
                address: IpAddr::from([192, 0, 2, 32]),
                origin: Origin::FirstCome,
                since: lab.world.now,
                expires: None,
            };
            lab.world.learned.insert(Lab::port(2), vec![own]);
        }),
    ];
    let mut told = 0;
    for (name, change) in cases {
        let mut lab = lab();
        change(&mut lab);
        let (before, _) = lab.settle();
        claims_of_all_kinds(&mut lab);
        lab.world.observed = lab.kernel.state.clone();
        let after = decide(&lab.world);
        for n in 1..=3 {
            let (subject, findings) =
                findings_of_port(&lab.world, &before, Lab::port(n)).expect("a guest port");
            let is_its =
                |one: &&Finding| one.key.subject == subject && OF_CLAIMS.contains(&one.key.kind);
            let expect: Vec<_> = after.findings.iter().filter(is_its).cloned().collect();
            assert_eq!(findings, expect, "{name}: port {n}");
            told += findings.len();
        }
        let of_ports = after.findings.iter().filter(|one| OF_CLAIMS.contains(&one.key.kind));
        for finding in of_ports {
            assert!(matches!(finding.key.subject, Subject::Port { .. }), "{name}: {finding:?}");
        }
    }
    assert!(told > 10, "{told} findings");
}

/// Whoever knows the reason knows which kind of finding there may be.
#[test]
fn a_reason_makes_one_kind_of_finding_at_most() {
    for reason in Reason::ALL.iter().copied() {
        let mut lab = lab();
        let (decision, _) = lab.settle();
        for n in 1..=2 {
            lab.sees(n, Lab::mac(9), Some([203, 0, 113, 1]), reason);
            let told = findings_of_port(&lab.world, &decision, Lab::port(n)).unwrap().1;
            let kinds: Vec<_> = told.iter().map(|finding| finding.key.kind).collect();
            assert!(kinds.iter().all(|kind| Some(*kind) == kind_of_claim(reason)), "{reason:?}");
        }
    }
}

#[test]
fn what_is_no_guests_claim_is_for_a_decision() {
    let mut lab = lab();
    lab.link(70, "eth7", LinkKind::Physical, Some(BRIDGE));
    let (decision, _) = lab.settle();
    for ifindex in [70, BRIDGE, 999] {
        assert_eq!(findings_of_port(&lab.world, &decision, ifindex), None, "{ifindex}");
    }
}

/// Whatever a port claims while it floods is part of the one finding; nothing is lost by it.
#[test]
fn a_flood_is_one_finding_and_hides_nothing() {
    let mut lab = lab();
    claims_of_all_kinds(&mut lab);
    let kinds = |lab: &mut Lab| -> Vec<_> {
        let (decision, _) = lab.settle();
        decision.findings.into_iter().map(|finding| finding.key.kind).collect()
    };
    use FindingKind::*;
    let quiet = [ForeignIdentity, AddressConflict, LearnedFull];
    assert_eq!(kinds(&mut lab), quiet);
    lab.floods(1);
    lab.floods(2);
    let (decision, _) = lab.settle();
    let [of_1, of_2] = &decision.findings[..] else { panic!("{:?}", decision.findings) };
    assert_eq!((of_1.key.kind, of_2.key.kind), (Flood, Flood));
    assert_eq!((of_1.severity, of_2.severity), (Severity::High, Severity::Medium));
    let text = format!("{of_1:?}");
    for part in ["vm3", &Lab::uuid(3).to_string(), "192.0.2.7", "frames a second"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = format!("{of_2:?}");
    assert!(text.contains("192.0.2.31") && text.contains("192.0.2.30"), "{text}");

    lab.world.loads.clear();
    assert_eq!(kinds(&mut lab), quiet, "once it is over");
}
