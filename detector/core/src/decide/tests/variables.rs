//! Where firmware's stored variables come from, and disks that are snapshots.

use detector_common::settings::Mode;

use crate::{
    decide::{
        Outcome, VmStatus,
        policy::{DEFAULT, Rules},
    },
    model::{
        Chain, Digest, Evidence, EvidenceLevel, Image, ImageFile, Layer, Medium, MediumRole,
        MediumSource, PowerState,
    },
    testing::{BASE, Lab, UNKNOWN},
};

const VARIABLES: Digest = Digest([0x7a; 32]);

/// The rule that the built-in policy shows how to ask.
fn asking() -> Rules {
    let start = DEFAULT.find("// @id(\"variables-known\")").unwrap();
    let rule = DEFAULT[start..].lines().take_while(|line| line.starts_with("//"));
    let rule: Vec<_> = rule.map(|line| line.trim_start_matches("//")).collect();
    Rules::parse(&format!("{}\n{DEFAULT}", rule.join("\n"))).unwrap()
}

fn lab() -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.base(1, BASE);
    for template in &mut lab.world.registry.templates {
        template.images.push(Image::new(MediumRole::Firmware, VARIABLES));
    }
    lab.vm(1).posture.stored_variables = Some(true);
    lab
}

fn file() -> ImageFile {
    ImageFile::new("/img/1.variables", None)
}

fn at_birth(lab: &mut Lab) {
    for evidence in lab.world.evidence.values_mut() {
        if let Evidence::Chain(chain) = evidence {
            chain.at_birth = chain.digest == VARIABLES;
        }
    }
}

#[test]
fn variables_are_the_templates_or_nobodys() {
    type Change = fn(&mut Lab);
    let stored = |lab: &mut Lab, digest| lab.add_medium(1, MediumRole::Variables, digest);
    let cases: &[(&str, Change, VmStatus, &str)] = &[
        (
            "none",
            |lab| lab.vm(1).posture.stored_variables = Some(false),
            VmStatus::Approved,
            "stores no variables",
        ),
        (
            "nobody says",
            |lab| lab.vm(1).posture.stored_variables = None,
            VmStatus::Denied,
            "Nobody says",
        ),
        ("none that can be read", |_| (), VmStatus::Denied, "cannot be read on this host"),
        (
            "elsewhere",
            |lab| {
                let source = MediumSource::Remote("network".to_owned());
                lab.vm(1).media.push(Medium { role: MediumRole::Variables, source });
            },
            VmStatus::Denied,
            "cannot be read on this host",
        ),
        (
            "the template's",
            |lab| lab.add_medium(1, MediumRole::Variables, Some(VARIABLES)),
            VmStatus::Approved,
            "are the template's",
        ),
        (
            "born from the template's",
            |lab| {
                lab.add_medium(1, MediumRole::Variables, Some(VARIABLES));
                at_birth(lab);
            },
            VmStatus::Approved,
            "A certificate of birth says",
        ),
        (
            "of unknown origin",
            |lab| lab.add_medium(1, MediumRole::Variables, Some(UNKNOWN)),
            VmStatus::Denied,
            "are not the template's",
        ),
        (
            "an image of the template with another role",
            |lab| lab.add_medium(1, MediumRole::Variables, Some(BASE)),
            VmStatus::Denied,
            "are not the template's",
        ),
        (
            "being read",
            |lab| lab.add_medium(1, MediumRole::Variables, None),
            VmStatus::Pending,
            "not known yet",
        ),
        (
            "unreadable",
            |lab| {
                lab.add_medium(1, MediumRole::Variables, None);
                let why = Evidence::Unreadable("a run whose end was not seen".to_owned());
                lab.world.evidence.insert(file(), why);
            },
            VmStatus::Pending,
            "a run whose end was not seen",
        ),
        (
            "one of two of unknown origin",
            |lab| {
                lab.add_medium(1, MediumRole::Variables, Some(VARIABLES));
                let other = ImageFile::new("/img/other", None);
                let medium = MediumSource::File(other.clone());
                lab.vm(1).media.push(Medium { role: MediumRole::Variables, source: medium });
                lab.world.evidence.insert(other, chain(UNKNOWN));
            },
            VmStatus::Denied,
            "/img/other",
        ),
    ];
    for (name, change, status, said) in cases {
        let mut lab = lab();
        change(&mut lab);
        // By default nobody asks, and they are no medium that has to be covered.
        let by_default = &lab.decide().vms[&Lab::uuid(1)];
        assert_eq!(by_default.status, VmStatus::Approved, "{name}");
        assert!(by_default.requirements.iter().all(|one| !one.finding.contains("2 media")));

        lab.world.rules.rules = asking().into();
        let decision = lab.decide();
        let decided = &decision.vms[&Lab::uuid(1)];
        assert_eq!(decided.status, *status, "{name}: {:?}", decided.requirements);
        let known = decided.requirements.iter().find(|one| one.id == "variables-known").unwrap();
        assert!(known.finding.contains(said), "{name}: {known:?}");
        assert_eq!(known.outcome == Outcome::Met, *status == VmStatus::Approved, "{name}");
    }
    let mut lab = lab();
    stored(&mut lab, None);
    assert_eq!(lab.decide().wanted, [file()].into(), "what there is to know is read");
    lab.vm(1).power = PowerState::Off;
    assert!(lab.decide().wanted.is_empty());
}

fn chain(digest: Digest) -> Evidence {
    let base = Layer { path: "/dev/vg/x".into(), format: "raw".to_owned() };
    Evidence::Chain(Chain { overlays: Vec::new(), base, digest, at_birth: false })
}

/// What a disk was a snapshot of is a word; what it is, a digest.
#[test]
fn a_snapshot_is_its_managers_word() {
    use EvidenceLevel::{Certificate, Declared, Digest};
    const ALL: [EvidenceLevel; 3] = [Digest, Certificate, Declared];
    // (the disk, its origin, at which levels it is approved, whether its origin is read)
    let cases = [
        (BASE, None, &ALL[..], false),
        (UNKNOWN, Some(BASE), &[Declared], true),
        (UNKNOWN, Some(UNKNOWN), &[], true),
        (UNKNOWN, None, &[], true),
    ];
    for (disk, origin, approved, asks) in cases {
        for level in ALL {
            let mut lab = Lab::with_vms(Mode::Enforce, 1);
            lab.world.policy.evidence = level;
            let base = ImageFile::new("/dev/vg/base", Some("raw"));
            let snapshot = ImageFile {
                origin: Some(Box::new(base.clone())),
                ..ImageFile::new("/dev/vg/web", Some("raw"))
            };
            lab.vm(1).media[0].source = MediumSource::File(snapshot.clone());
            assert_eq!(lab.decide().wanted, [snapshot.clone()].into(), "what it is comes first");
            lab.world.evidence.insert(snapshot, chain(disk));
            let wanted = lab.decide().wanted;
            assert_eq!(wanted.contains(&base), asks && level == Declared, "{level:?}");
            if let Some(origin) = origin {
                lab.world.evidence.insert(base, chain(origin));
            }
            let decision = lab.decide();
            let decided = &decision.vms[&Lab::uuid(1)];
            let case = format!("{disk:?} of {origin:?} where {level:?} is asked for");
            let expect = if approved.contains(&level) {
                VmStatus::Approved
            } else if level == Declared && origin.is_none() {
                VmStatus::Pending
            } else {
                VmStatus::Denied
            };
            assert_eq!(decided.status, expect, "{case}: {:?}", decided.requirements);
            if expect == VmStatus::Approved && disk == UNKNOWN {
                let said = decided.requirements.iter().find(|one| one.id == "evidence-sufficient");
                let said = &said.unwrap().finding;
                assert!(said.contains("snapshot of \"/dev/vg/base\""), "{said}");
            }
        }
    }
}
