//! What a VM does, as findings say, may cost it its place: by the policy, in the next decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use detector_common::{
    learned::{Origin, OwnerKey},
    maps::LEARNED_PER_PORT,
    reason::Reason,
    settings::Mode,
};
use uuid::Uuid;

use crate::{
    decide::{
        Guard, VmStatus,
        policy::{DEFAULT, Rules},
    },
    model::{AddressRule, BlastLimits, Evidence, FindingKind, Learned},
    reconcile::mapped,
    testing::{BRIDGE, Lab, UNKNOWN},
};

const HONEST: &str = "@id(\"honest\") @sentence(\"It speaks as itself.\")
    forbid (principal, action == Action::\"join\", resource)
    when { principal has findings && principal.findings.contains(\"foreign-identity\") };\n";

fn lab(text: &str) -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.world.rules.rules = Arc::new(Rules::parse(&format!("{text}{DEFAULT}")).unwrap());
    lab.settle();
    lab.sees(1, Lab::mac(9), None, Reason::MacNotGranted);
    lab.settle();
    lab
}

fn conduct(lab: &mut Lab) -> BTreeMap<Uuid, BTreeSet<FindingKind>> {
    lab.decide().conduct(&lab.world)
}

/// As the daemon does before each decision.
fn next(lab: &mut Lab) -> [VmStatus; 2] {
    lab.world.conduct = conduct(lab);
    lab.settle();
    let decision = lab.decide();
    [1, 2].map(|number| decision.vms[&Lab::uuid(number)].status)
}

#[test]
fn a_finding_leads_to_what_a_rule_says_and_to_nothing_without() {
    assert_eq!(next(&mut lab("")), [VmStatus::Approved; 2]);
    let mut lab = lab(HONEST);
    assert_eq!(lab.decide().vms[&Lab::uuid(1)].status, VmStatus::Approved, "in the next decision");
    assert_eq!(next(&mut lab), [VmStatus::Quarantined, VmStatus::Approved]);
    // It stays so when the finding is over, and may be released then.
    lab.world.seen.clear();
    assert_eq!(next(&mut lab), [VmStatus::Quarantined, VmStatus::Approved]);
    let decision = lab.decide();
    assert_eq!(decision.vms[&Lab::uuid(1)].verdict, VmStatus::Approved);
    assert!(decision.conduct(&lab.world).is_empty());
}

#[test]
fn the_guard_holds_who_would_be_cut_off_by_a_finding() {
    let mut lab = lab(HONEST);
    let window = Duration::from_secs(600);
    lab.world.policy.blast = Some(BlastLimits { vms: 0, percent: 100, window });
    lab.world.conduct = conduct(&mut lab);
    let decision = lab.decide();
    let guard = &decision.vms[&Lab::uuid(1)].guard;
    assert!(matches!(guard, Guard::Held(hold) if hold.grounds.contains("honest")), "{guard:?}");
    assert_eq!(decision.vms[&Lab::uuid(2)].guard, Guard::Clear);
}

/// What follows from a verdict leads to none, or one would keep itself up.
#[test]
fn no_verdict_rests_on_itself() {
    let conduct: BTreeSet<_> = FindingKind::OF_CONDUCT.into();
    for kind in [FindingKind::RogueVm, FindingKind::MacClone, FindingKind::BlastRadius] {
        assert!(!conduct.contains(&kind), "{kind:?}");
    }
}

/// A port of VM 2 has learned so many addresses, from 192.0.2.0 on.
fn has_learned(lab: &mut Lab, n: u8, count: u8) {
    let learned = |last: u8| Learned {
        instance: lab.kernel.slot(Lab::port(n)).instance,
        scope: BRIDGE,
        mac: Lab::mac(n),
        vlan: 0,
        address: [192, 0, 2, last].into(),
        origin: Origin::FirstCome,
        since: lab.world.now,
        expires: None,
    };
    let all = (0..count).map(learned).collect();
    lab.world.learned.insert(Lab::port(n), all);
}

fn claims(lab: &mut Lab, last: u8, reason: Reason) {
    lab.sees(2, Lab::mac(2), Some([192, 0, 2, last]), reason);
}

fn is_replaced(lab: &mut Lab) {
    let (file, before) =
        lab.world.evidence.iter().next().map(|(f, e)| (f.clone(), e.clone())).unwrap();
    let Evidence::Chain(before) = before else { panic!("{before:?}") };
    lab.world.booted.insert(Lab::uuid(1), [(file, before)].into());
    lab.base(1, UNKNOWN);
}

/// Whoever takes something from a VM, or from the host, has nobody cut off by that.
#[test]
fn what_others_can_do_to_a_vm_is_held_against_nobody() {
    use FindingKind::{AddressConflict, Flood, LearnedFull, MediumChanged};
    const ALL: u8 = LEARNED_PER_PORT as u8;
    type Case = (&'static str, FindingKind, u8, fn(&mut Lab), bool);
    let cases: &[Case] = &[
        (
            "a neighbour came first",
            AddressConflict,
            2,
            |lab| {
                has_learned(lab, 1, 11);
                claims(lab, 10, Reason::AddressTaken);
            },
            false,
        ),
        (
            "nobody knows whose it was",
            AddressConflict,
            2,
            |lab| claims(lab, 10, Reason::AddressTaken),
            false,
        ),
        (
            "a router that somebody has named",
            AddressConflict,
            2,
            |lab| {
                let address = mapped([192, 0, 2, 10].into());
                let key = OwnerKey { address, scope: BRIDGE, vlan: 0, pad: 0 };
                lab.kernel.state.routers.insert(key);
                claims(lab, 10, Reason::AddressTaken);
            },
            false,
        ),
        ("the gateway's", AddressConflict, 2, |lab| claims(lab, 254, Reason::AddressTaken), true),
        ("another NIC's own", AddressConflict, 2, |lab| claims(lab, 3, Reason::AddressTaken), true),
        (
            "the host's table is full",
            LearnedFull,
            2,
            |lab| {
                has_learned(lab, 2, 3);
                claims(lab, 40, Reason::LearnedFull);
            },
            false,
        ),
        (
            "it has all that a port may",
            LearnedFull,
            2,
            |lab| {
                has_learned(lab, 2, ALL);
                claims(lab, 40, Reason::LearnedFull);
            },
            true,
        ),
        ("it floods", Flood, 2, |lab| lab.floods(2), true),
        (
            "it floods with what is another's",
            Flood,
            2,
            |lab| {
                claims(lab, 10, Reason::AddressTaken);
                claims(lab, 254, Reason::AddressTaken);
                claims(lab, 41, Reason::Ipv4Source);
                lab.floods(2);
            },
            true,
        ),
        (
            "what it has always said is refused since another has it",
            Flood,
            2,
            |lab| {
                claims(lab, 10, Reason::AddressTaken);
                lab.floods(2);
            },
            false,
        ),
        (
            "the file cannot be read for now",
            MediumChanged,
            1,
            |lab| {
                is_replaced(lab);
                let file = lab.world.booted[&Lab::uuid(1)].keys().next().unwrap().clone();
                lab.world.disturbed.insert(file, "input/output error".to_owned());
            },
            false,
        ),
        ("the file is another one", MediumChanged, 1, is_replaced, true),
    ];
    for (name, kind, vm, change, counts) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 3);
        lab.nic(2).rule = Some(AddressRule::FirstCome);
        lab.nic(3).addresses = vec!["192.0.2.3/32".parse().unwrap()];
        lab.world.policy.protected = vec!["192.0.2.254".parse().unwrap()];
        lab.settle();
        change(&mut lab);
        let decision = lab.decide();
        let told = decision.findings.iter().any(|finding| finding.key.kind == *kind);
        assert!(told, "{name}: {:?}", decision.findings);
        let expect: BTreeMap<_, _> =
            counts.then(|| (Lab::uuid(*vm), BTreeSet::from([*kind]))).into_iter().collect();
        assert_eq!(decision.conduct(&lab.world), expect, "{name}");
    }
}
