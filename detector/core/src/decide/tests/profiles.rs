//! What the profile of a template asks of its VMs.

use detector_common::settings::Mode;

use crate::{
    decide::{Decision, Outcome, Requirement, VmStatus},
    model::{
        EvidenceLevel, Firmware, FirmwareKind, Image, MediumRole, Posture, SecurityProfile,
        Template, TemplateStatus,
    },
    testing::{BASE, CDROM, Lab},
};

fn asks_for_efi() -> SecurityProfile {
    SecurityProfile { firmware: Some(FirmwareKind::Efi), ..SecurityProfile::default() }
}

fn of_profile(decision: &Decision) -> Vec<&Requirement> {
    let all = decision.vms[&Lab::uuid(1)].requirements.iter();
    all.filter(|one| one.id.starts_with("profile-")).collect()
}

#[test]
fn a_profile_is_asked_of_the_vm_and_says_what_was_found() {
    let efi = || Posture { firmware: Some(Firmware::Efi), ..Posture::default() };
    let bios = || Posture { firmware: Some(Firmware::Bios), ..Posture::default() };
    let cases = [
        (efi(), VmStatus::Approved, Outcome::Met, "asks for EFI firmware, and the VM has EFI"),
        (bios(), VmStatus::Denied, Outcome::Failed, "asks for EFI firmware, and the VM has a BIOS"),
        (Posture::default(), VmStatus::Denied, Outcome::Failed, "nobody says what the VM has"),
    ];
    for (posture, status, outcome, words) in cases {
        let mut lab = Lab::with_vms(Mode::Observe, 1);
        assert_eq!(of_profile(&lab.decide()), [] as [&Requirement; 0], "nothing is asked");
        lab.template("debian-12").profile = asks_for_efi();
        lab.vm(1).posture = posture;
        let decision = lab.decide();
        assert_eq!(decision.vms[&Lab::uuid(1)].status, status);
        let [requirement] = of_profile(&decision)[..] else { panic!("{decision:?}") };
        assert_eq!((requirement.id.as_str(), requirement.outcome), ("profile-firmware", outcome));
        assert!(requirement.finding.contains(words), "{requirement:?}");
        assert_eq!(requirement.remedy.is_empty(), outcome == Outcome::Met);
        // Nothing is asked while it is not known by whom.
        lab.evidence(1, None);
        let decision = lab.decide();
        assert_eq!(decision.vms[&Lab::uuid(1)].status, VmStatus::Pending);
        assert_eq!(of_profile(&decision), [] as [&Requirement; 0]);
    }
}

/// Registering the same images again is no way around a profile.
#[test]
fn every_template_of_the_same_images_is_asked() {
    let images = [(MediumRole::Disk, BASE), (MediumRole::Cdrom, CDROM)];
    let cases = [
        (TemplateStatus::Approved, VmStatus::Denied),
        (TemplateStatus::Deprecated, VmStatus::Denied),
        // Whoever prepares a new version takes nothing away from the old one.
        (TemplateStatus::Draft, VmStatus::Approved),
    ];
    for evidence in [EvidenceLevel::Digest, EvidenceLevel::Declared] {
        for (status, expected) in cases {
            let mut lab = Lab::with_vms(Mode::Observe, 1);
            lab.world.registry.templates.push(Template {
                version: Some("2".to_owned()),
                images: images.map(|(role, sha256)| Image::new(role, sha256)).into(),
                profile: asks_for_efi(),
                ..Template::new("debian-12", status)
            });
            lab.world.policy.evidence = evidence;
            if evidence == EvidenceLevel::Declared {
                lab.vm(1).declared_template = Some("debian-12".to_owned());
                lab.vm(1).media.clear();
            }
            let decision = lab.decide();
            let found = decision.vms[&Lab::uuid(1)].status;
            assert_eq!(found, expected, "{status:?} {evidence:?}: {decision:?}");
        }
    }
}
