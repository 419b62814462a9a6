//! What admits a VM, and what does not.

use detector_common::settings::Mode;

use crate::{
    decide::{Outcome, PortStatus, VmStatus},
    model::{
        Evidence, EvidenceLevel, Medium, MediumRole, MediumSource, PowerState, TemplateStatus,
    },
    testing::{CDROM, EXPIRED, Lab, MINUTE, REVOKED, STALE, UNKNOWN},
};

/// What is special about VM 1, its status, its port's, and the requirements that are not met.
type Case = (&'static str, fn(&mut Lab), VmStatus, PortStatus, &'static [&'static str]);

fn network(lab: &mut Lab) {
    let source = MediumSource::Remote("network boot".to_owned());
    lab.vm(1).media.push(Medium { role: MediumRole::Network, source });
}

fn remote(lab: &mut Lab) {
    let source = MediumSource::Remote("rbd:pool/x".to_owned());
    lab.vm(1).media.push(Medium { role: MediumRole::Disk, source });
}

fn take_declarations(lab: &mut Lab, id: &str) {
    lab.world.policy.evidence = EvidenceLevel::Declared;
    lab.vm(1).declared_template = Some(id.to_owned());
}

const UNDECIDED: &[&str] = &[
    "media-readable",
    "template-registered",
    "evidence-sufficient",
    "template-approved",
    "template-unexpired",
];
const UNTIED: &[&str] =
    &["template-registered", "evidence-sufficient", "template-approved", "template-unexpired"];

const CASES: &[Case] = &{
    use PortStatus::{Granted, Isolated, Pending as Mute};
    use VmStatus::{Approved, Denied, Off, Pending};
    [
        ("as it should be", |_| (), Approved, Granted, &[]),
        ("starting", |lab| lab.vm(1).power = PowerState::Starting, Approved, Granted, &[]),
        ("in transit", |lab| lab.vm(1).power = PowerState::InTransit, Approved, Granted, &[]),
        ("paused", |lab| lab.vm(1).power = PowerState::Paused, Approved, Granted, &[]),
        ("off", |lab| lab.vm(1).power = PowerState::Off, Off, Mute, &[]),
        ("an unknown disk", |lab| lab.base(1, UNKNOWN), Denied, Isolated, UNTIED),
        ("an image in another role", |lab| lab.base(1, CDROM), Denied, Isolated, UNTIED),
        (
            "a second, unknown disk",
            |lab| lab.add_medium(1, MediumRole::Disk, Some(UNKNOWN)),
            Denied,
            Isolated,
            UNTIED,
        ),
        (
            "the template's CD-ROM too",
            |lab| lab.add_medium(1, MediumRole::Cdrom, Some(CDROM)),
            Approved,
            Granted,
            &[],
        ),
        (
            "two disks of two templates",
            |lab| lab.add_medium(1, MediumRole::Disk, Some(STALE)),
            Denied,
            Isolated,
            UNTIED,
        ),
        (
            "an unknown disk beside one that is being read",
            |lab| {
                lab.base(1, UNKNOWN);
                lab.add_medium(1, MediumRole::Disk, None);
            },
            Denied,
            Isolated,
            &[
                "media-readable",
                "template-registered",
                "evidence-sufficient",
                "template-approved",
                "template-unexpired",
            ],
        ),
        ("nothing read yet", |lab| lab.evidence(1, None), Pending, Mute, UNDECIDED),
        ("being read", |lab| lab.evidence(1, Some(Evidence::Pending)), Pending, Mute, UNDECIDED),
        (
            "unreadable",
            |lab| lab.evidence(1, Some(Evidence::Unreadable("no such file".to_owned()))),
            Pending,
            Mute,
            UNDECIDED,
        ),
        (
            "no media",
            |lab| lab.vm(1).media.clear(),
            Denied,
            Isolated,
            &[
                "media-listed",
                "template-registered",
                "evidence-sufficient",
                "template-approved",
                "template-unexpired",
            ],
        ),
        (
            "network boot",
            network,
            Denied,
            Isolated,
            &[
                "no-network-boot",
                "template-registered",
                "evidence-sufficient",
                "template-approved",
                "template-unexpired",
            ],
        ),
        (
            "a remote disk",
            remote,
            Denied,
            Isolated,
            &[
                "media-local",
                "template-registered",
                "evidence-sufficient",
                "template-approved",
                "template-unexpired",
            ],
        ),
        ("a deprecated template", |lab| lab.base(1, STALE), Approved, Granted, &[]),
        (
            "a revoked template",
            |lab| lab.base(1, REVOKED),
            Denied,
            Isolated,
            &["template-approved"],
        ),
        (
            "a draft",
            |lab| lab.template("debian-12").status = TemplateStatus::Draft,
            Denied,
            Isolated,
            &["template-approved"],
        ),
        (
            "a draft of what is approved as well",
            |lab| {
                let mut draft = lab.template("debian-12").clone();
                draft.version = Some("next".to_owned());
                draft.status = TemplateStatus::Draft;
                lab.world.registry.templates.insert(0, draft);
            },
            Approved,
            Granted,
            &[],
        ),
        (
            "a version that is approved, of a template with one that is revoked",
            |lab| {
                let mut old = lab.template("debian-10").clone();
                old.id = "debian-12".to_owned();
                old.version = Some("old".to_owned());
                lab.world.registry.templates.push(old);
            },
            Approved,
            Granted,
            &[],
        ),
        (
            "an expired template",
            |lab| lab.base(1, EXPIRED),
            Denied,
            Isolated,
            &["template-unexpired"],
        ),
        (
            "a template that expires now",
            |lab| lab.pass(60 * MINUTE),
            Denied,
            Isolated,
            &["template-unexpired"],
        ),
        (
            "a revoked image registered once more",
            |lab| {
                let mut again = lab.template("debian-10").clone();
                again.id = "debian-10-again".to_owned();
                again.status = TemplateStatus::Approved;
                lab.world.registry.templates.push(again);
                lab.base(1, REVOKED);
            },
            Denied,
            Isolated,
            &["template-approved"],
        ),
        (
            "a declaration alone, where a digest is asked for",
            |lab| {
                lab.vm(1).declared_template = Some("debian-12".to_owned());
                lab.base(1, UNKNOWN);
            },
            Denied,
            Isolated,
            &["evidence-sufficient"],
        ),
        (
            "a declaration, where that suffices",
            |lab| {
                take_declarations(lab, "debian-12");
                lab.evidence(1, None);
            },
            Approved,
            Granted,
            &[],
        ),
        (
            "a declaration without any medium",
            |lab| {
                take_declarations(lab, "debian-12");
                lab.vm(1).media.clear();
            },
            Approved,
            Granted,
            &[],
        ),
        (
            "a declaration of what is not registered",
            |lab| {
                take_declarations(lab, "debian-13");
                lab.vm(1).media.clear();
            },
            Denied,
            Isolated,
            &["template-registered", "template-approved", "template-unexpired"],
        ),
        (
            "a declaration against proof of a revoked template",
            |lab| {
                take_declarations(lab, "debian-12");
                lab.base(1, REVOKED);
            },
            Denied,
            Isolated,
            &["template-approved"],
        ),
        (
            "no declaration, where one would suffice",
            |lab| {
                lab.world.policy.evidence = EvidenceLevel::Declared;
                lab.base(1, UNKNOWN);
            },
            Denied,
            Isolated,
            UNTIED,
        ),
        ("an empty registry", |lab| lab.world.registry.templates.clear(), Denied, Isolated, UNTIED),
        (
            "a registry that cannot be read",
            |lab| {
                lab.world.registry.templates.clear();
                lab.world.registry.lost = Some("permission denied".to_owned());
            },
            Pending,
            Mute,
            UNTIED,
        ),
    ]
};

#[test]
fn verdicts() {
    for (name, change, status, port, unmet) in CASES {
        let mut lab = Lab::with_vms(Mode::Enforce, 2);
        change(&mut lab);
        let decision = lab.decide();
        let vm = &decision.vms[&Lab::uuid(1)];
        let missing: Vec<_> = vm
            .requirements
            .iter()
            .filter(|one| one.outcome != Outcome::Met)
            .map(|one| one.id.as_str())
            .collect();
        assert_eq!(vm.status, *status, "{name}");
        assert_eq!(missing, *unmet, "{name}");
        assert_eq!(decision.ports[&Lab::port(1)].status, *port, "{name}");
        for requirement in &vm.requirements {
            // The built-in policy and what is said of it agree, or the rule would use its own words.
            let own = ["Met:", "Not met:", "Not known yet:"];
            assert!(!own.iter().any(|begin| requirement.finding.starts_with(begin)), "{name}");
            assert!(!requirement.sentence.is_empty(), "{name}");
            let superfluous = requirement.outcome == Outcome::Met && !requirement.remedy.is_empty();
            assert!(!superfluous && requirement.finding.ends_with('.'), "{name}: {requirement:?}");
        }
        let remedied = vm.requirements.iter().any(|one| !one.remedy.is_empty());
        assert_eq!(remedied, !missing.is_empty(), "{name}");
    }
}

/// Invariant 9: the mode changes neither verdict nor plan, neither reasons nor findings.
#[test]
fn both_modes_decide_the_same() {
    for (name, change, ..) in CASES {
        let [observe, enforce] = [Mode::Observe, Mode::Enforce].map(|mode| {
            let mut lab = Lab::with_vms(mode, 2);
            change(&mut lab);
            lab.decide()
        });
        assert_eq!(observe.vms, enforce.vms, "{name}");
        assert_eq!(observe.ports, enforce.ports, "{name}");
        assert_eq!(observe.desired.interfaces, enforce.desired.interfaces, "{name}");
        assert_eq!(observe.findings, enforce.findings, "{name}");
        assert_eq!(observe.desired.quarantines.len(), 0, "{name}");
    }
}
