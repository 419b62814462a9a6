//! What an administrator is told.

use std::time::Duration;

use detector_common::{reason::Reason, settings::Mode};

use crate::{
    decide::PortStatus,
    model::{
        AddressRule, Digest, Evidence, FindingKind, LinkKind, RefusedOffer, Rejected, Severity,
        Told,
    },
    testing::{BRIDGE, Lab, MINUTE, REVOKED, STALE, UNKNOWN},
};

#[test]
fn each_kind() {
    use FindingKind::*;
    type Case = (&'static str, fn(&mut Lab), &'static [FindingKind]);
    let cases: &[Case] = &[
        ("all is well", |_| (), &[]),
        ("rogue", |lab| lab.base(1, UNKNOWN), &[RogueVm]),
        ("revoked", |lab| lab.base(1, REVOKED), &[RogueVm]),
        (
            "rogue, but off",
            |lab| {
                lab.base(1, UNKNOWN);
                lab.vm(1).power = crate::model::PowerState::Off;
            },
            &[],
        ),
        ("deprecated", |lab| lab.base(1, STALE), &[DeprecatedTemplate]),
        (
            "unreadable",
            |lab| lab.evidence(1, Some(Evidence::Unreadable("no such file".to_owned()))),
            &[NoEvidence],
        ),
        ("being read", |lab| lab.evidence(1, None), &[]),
        ("unknown port", |lab| lab.link(70, "vnet70", LinkKind::Tap, Some(BRIDGE)), &[UnknownPort]),
        ("vanished", |lab| lab.manager().vms.clear(), &[VmVanished]),
        ("lost", Lab::lose, &[SourceLost]),
        (
            "its fleet is gone",
            |lab| {
                let told = Told { since: lab.world.now, what: "no route".to_owned() };
                lab.world.fleet.lost = Some(told);
            },
            &[FleetLost],
        ),
        (
            "its fleet says what it does not take",
            |lab| {
                let fleet = &mut lab.world.fleet;
                let (since, what) = (lab.world.now, "version 2".to_owned());
                fleet.unread = Some(Told { since, what: what.clone() });
                fleet.refused =
                    Some(RefusedOffer { since, version: 7, sha256: Digest([0; 32]), why: what });
            },
            &[FleetRefused, FleetRefused],
        ),
        (
            "its files are not its fleet's",
            |lab| lab.world.fleet.drift = vec!["policy.cedar: it was changed".to_owned()],
            &[PolicyDrift],
        ),
        (
            "lost and vanished",
            |lab| {
                lab.lose();
                lab.manager().vms.clear();
            },
            &[SourceLost],
        ),
        (
            "rejected",
            |lab| {
                let entry =
                    |place: &str| Rejected { place: place.to_owned(), why: "odd".to_owned() };
                lab.manager().rejected.push(entry("inventory.toml:3"));
                lab.world.registry.rejected.push(entry("a.toml"));
            },
            &[EntryRejected, EntryRejected],
        ),
        (
            "a virtual router that learns",
            |lab| {
                lab.nic(1).vrrp = true;
                lab.nic(1).rule = Some(AddressRule::FirstCome);
            },
            &[EntryRejected],
        ),
        (
            "a virtual router by the policy's rule",
            |lab| {
                lab.nic(1).vrrp = true;
                lab.world.policy.default_rule = AddressRule::Dhcp;
            },
            &[EntryRejected],
        ),
        (
            "a virtual router with a list",
            |lab| {
                lab.nic(1).vrrp = true;
                lab.nic(1).addresses = vec!["192.0.2.7/32".parse().unwrap()];
                lab.world.policy.default_rule = AddressRule::Dhcp;
            },
            &[],
        ),
        (
            "an address that is nobody's",
            |lab| lab.nic(1).addresses = vec!["224.0.0.1/32".parse().unwrap()],
            &[EntryRejected],
        ),
        ("spoof", |lab| lab.sees(1, Lab::mac(2), None, Reason::MacNotGranted), &[ForeignIdentity]),
        ("nested", |lab| lab.sees(1, Lab::mac(9), None, Reason::MacNotGranted), &[ForeignIdentity]),
        (
            "refused before it was granted",
            |lab| lab.sees(1, Lab::mac(1), None, Reason::MacNotGranted),
            &[],
        ),
        ("mute then", |lab| lab.sees(1, Lab::mac(1), None, Reason::PortPending), &[]),
        (
            "a stolen address",
            |lab| {
                lab.nic(1).addresses = vec!["192.0.2.1/32".parse().unwrap()];
                lab.sees(1, Lab::mac(1), Some([192, 0, 2, 7]), Reason::ArpSenderAddress);
            },
            &[ForeignIdentity],
        ),
        (
            "its own address",
            |lab| {
                lab.nic(1).addresses = vec!["192.0.2.1/32".parse().unwrap()];
                lab.sees(1, Lab::mac(1), Some([192, 0, 2, 1]), Reason::ArpSenderAddress);
            },
            &[],
        ),
        (
            "a rule that cannot be evaluated",
            |lab| {
                const RULE: &str = "@id(\"broken\") @sentence(\"It adds up.\") forbid (principal, \
                    action == Action::\"join\", resource) when { principal has mediaCount && \
                    principal.mediaCount * 9223372036854775807 * 2 > 0 };\n";
                let text = format!("{RULE}{}", crate::decide::policy::DEFAULT);
                lab.world.rules.rules = crate::decide::policy::Rules::parse(&text).unwrap().into();
            },
            &[RogueVm, PolicyError],
        ),
        ("garbage", |lab| lab.sees(1, Lab::mac(1), None, Reason::Truncated), &[]),
    ];
    for (name, change, expect) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        lab.settle();
        let now = lab.world.now;
        change(&mut lab);
        lab.settle();
        lab.world.links.values().filter(|link| link.ifindex >= 70).for_each(|link| {
            let instance = lab.kernel.slot(link.ifindex).instance;
            lab.world.noticed.insert((link.ifindex, instance), now);
        });
        lab.pass(Duration::from_secs(1));
        let (decision, _) = lab.settle();
        let kinds: Vec<_> = decision.findings.iter().map(|finding| finding.key.kind).collect();
        assert_eq!(kinds, *expect, "{name}");
        for finding in &decision.findings {
            assert!(!finding.evidence.is_empty() && finding.title.ends_with('.'), "{finding:?}");
        }
    }
}

#[test]
fn an_unknown_port_has_its_grace() {
    let mut lab = Lab::new(Mode::Enforce);
    lab.link(70, "vnet70", LinkKind::Tap, Some(BRIDGE));
    let (decision, _) = lab.settle();
    let due = lab.world.now + Duration::from_secs(1);
    assert_eq!((decision.findings.len(), decision.wake_at), (0, Some(due)));
    assert_eq!(decision.ports[&70].vm, None);
    assert_eq!(decision.ports[&70].status, PortStatus::Pending);

    let noticed = lab.world.now;
    lab.world.noticed.insert((70, lab.kernel.slot(70).instance), noticed);
    lab.pass(Duration::from_millis(999));
    assert_eq!(lab.decide().findings.len(), 0);
    lab.pass(Duration::from_millis(1));
    let decision = lab.decide();
    assert_eq!(decision.findings[0].key.kind, FindingKind::UnknownPort);
    assert_eq!(decision.findings[0].since, noticed);
    assert_eq!(decision.wake_at, None);
}

/// A foreign identity leaves the port's own traffic alone, and is forgotten when it stays away.
#[test]
fn a_foreign_identity_is_told_and_not_punished() {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.settle();
    let expires = lab.template("debian-12").expires;
    lab.sees(1, Lab::mac(2), None, Reason::MacNotGranted);
    let (decision, actions) = lab.settle();
    assert_eq!(actions, []);
    assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Granted);
    let finding = &decision.findings[0];
    assert_eq!(finding.severity, Severity::High, "the MAC is another VM's");
    let owner = ("owner".to_owned(), Lab::uuid(2).to_string());
    assert!(finding.evidence.contains(&owner), "{finding:?}");
    assert_eq!(decision.wake_at, Some(lab.world.now + 10 * MINUTE));

    lab.pass(10 * MINUTE);
    let decision = lab.decide();
    assert_eq!((decision.findings.len(), decision.wake_at), (0, expires));
}

/// Another life of the port does not answer for this one.
#[test]
fn sightings_are_of_an_instance() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.settle();
    lab.sees(1, Lab::mac(9), None, Reason::MacNotGranted);
    lab.kernel.forget(Lab::port(1));
    let (decision, _) = lab.settle();
    assert_eq!(decision.findings, []);
}

#[test]
fn hostile_names_stay_data() {
    let cases = [
        ("web-1", "detector explain web-1"),
        ("x; reboot", "detector explain 00000000-0000-0000-0000-000000000001"),
        ("-o", "detector explain 00000000-0000-0000-0000-000000000001"),
        ("\u{1b}[2J\u{202e}", "detector explain 00000000-0000-0000-0000-000000000001"),
        (&"x".repeat(9999), "detector explain 00000000-0000-0000-0000-000000000001"),
    ];
    for (name, next) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        lab.base(1, UNKNOWN);
        lab.vm(1).name = name.to_owned();
        let decision = lab.decide();
        let finding = &decision.findings[0];
        assert_eq!(finding.next.as_deref(), Some(next));
        assert!(finding.title.len() < 600, "{}", finding.title.len());
        let odd = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!finding.title.contains(odd), "{:?}", finding.title);
        let why = &decision.ports[&Lab::port(1)].why;
        assert!(!why.contains(odd) && why.len() < 600, "{why:?}");
    }
}
