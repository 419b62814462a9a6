//! What people have approved for one VM alone proves that one, and nothing else.

use detector_common::settings::Mode;

use crate::{
    decide::VmStatus,
    model::{Chain, Digest, Evidence, Image, MediumRole, MediumSource, Template, TemplateStatus},
    testing::{BASE, CDROM, Lab, REVOKED, UNKNOWN},
};

const OTHER: Digest = Digest([8; 32]);

fn approve(lab: &mut Lab, n: u8, images: &[(MediumRole, Digest)]) {
    let images = images.iter().map(|(role, digest)| Image::new(*role, *digest)).collect();
    let template = Template::new("remediated/it", TemplateStatus::Approved);
    lab.world.births.held.insert(Lab::uuid(n), Template { images, ..template });
}

#[test]
fn an_image_that_was_approved_for_one_vm_proves_that_vm() {
    use MediumRole::{Cdrom, Disk};
    type Case = (&'static str, fn(&mut Lab), VmStatus);
    let cases: &[Case] = &[
        ("nobody has approved it", |lab| lab.base(1, UNKNOWN), VmStatus::Denied),
        (
            "approved",
            |lab| {
                lab.base(1, UNKNOWN);
                approve(lab, 1, &[(Disk, UNKNOWN)]);
            },
            VmStatus::Approved,
        ),
        (
            "for another VM",
            |lab| {
                lab.base(1, UNKNOWN);
                approve(lab, 2, &[(Disk, UNKNOWN)]);
            },
            VmStatus::Denied,
        ),
        (
            "another image",
            |lab| {
                lab.base(1, UNKNOWN);
                approve(lab, 1, &[(Disk, OTHER)]);
            },
            VmStatus::Denied,
        ),
        (
            "in another role",
            |lab| {
                lab.base(1, UNKNOWN);
                approve(lab, 1, &[(Cdrom, UNKNOWN)]);
            },
            VmStatus::Denied,
        ),
        (
            "with an image of a template beside it",
            |lab| {
                lab.base(1, UNKNOWN);
                lab.add_medium(1, Cdrom, Some(CDROM));
                approve(lab, 1, &[(Disk, UNKNOWN), (Cdrom, CDROM)]);
            },
            VmStatus::Approved,
        ),
        (
            "with something else beside it",
            |lab| {
                lab.base(1, UNKNOWN);
                lab.add_medium(1, Cdrom, Some(OTHER));
                approve(lab, 1, &[(Disk, UNKNOWN)]);
            },
            VmStatus::Denied,
        ),
        (
            "with an image of a template beside it that was not there",
            |lab| {
                lab.base(1, UNKNOWN);
                lab.add_medium(1, Cdrom, Some(CDROM));
                approve(lab, 1, &[(Disk, UNKNOWN)]);
            },
            VmStatus::Denied,
        ),
        (
            "what somebody has drafted a template of",
            |lab| {
                lab.base(1, UNKNOWN);
                lab.template("debian-11").status = TemplateStatus::Draft;
                lab.template("debian-11").images = vec![Image::new(Disk, UNKNOWN)];
                approve(lab, 1, &[(Disk, UNKNOWN)]);
            },
            VmStatus::Approved,
        ),
        (
            "while something is being read",
            |lab| {
                lab.base(1, UNKNOWN);
                lab.add_medium(1, Cdrom, None);
                approve(lab, 1, &[(Disk, UNKNOWN), (Cdrom, CDROM)]);
            },
            VmStatus::Pending,
        ),
        (
            "what a template has that is revoked",
            |lab| {
                lab.base(1, REVOKED);
                approve(lab, 1, &[(Disk, REVOKED)]);
            },
            VmStatus::Denied,
        ),
        (
            "beside what a template has that is revoked",
            |lab| {
                lab.base(1, UNKNOWN);
                lab.add_medium(1, Cdrom, Some(OTHER));
                lab.template("debian-10").images.push(Image::new(Cdrom, OTHER));
                approve(lab, 1, &[(Disk, UNKNOWN), (Cdrom, OTHER)]);
            },
            VmStatus::Denied,
        ),
        (
            "what was approved cannot be read",
            |lab| {
                lab.base(1, UNKNOWN);
                lab.world.births.lost = Some("it is damaged".to_owned());
            },
            VmStatus::Pending,
        ),
    ];
    for (name, change, expect) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 2);
        change(&mut lab);
        let decision = lab.decide();
        let vm = &decision.vms[&Lab::uuid(1)];
        assert_eq!(vm.verdict, *expect, "{name}: {:#?}", vm.requirements);
        let is_born = vm.template.as_deref() == Some("remediated/it");
        assert_eq!(is_born, *expect == VmStatus::Approved, "{name}");
        assert_eq!(decision.vms[&Lab::uuid(2)].verdict, VmStatus::Approved, "{name}: the other");
    }
}

/// What takes the place of an approved image while the VM runs counts as well.
#[test]
fn another_image_in_its_place_was_not_approved() {
    for (now, expect) in [(OTHER, VmStatus::Denied), (BASE, VmStatus::Approved)] {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        lab.base(1, UNKNOWN);
        approve(&mut lab, 1, &[(MediumRole::Disk, UNKNOWN)]);
        let MediumSource::File(file) = lab.vm(1).media[0].source.clone() else { panic!() };
        let Some(Evidence::Chain(booted)) = lab.world.evidence.get(&file).cloned() else {
            panic!()
        };
        lab.world.booted.entry(Lab::uuid(1)).or_default().insert(file.clone(), booted.clone());
        let chain = Chain { digest: now, ..booted };
        lab.world.evidence.insert(file, Evidence::Chain(chain));
        assert_eq!(lab.decide().vms[&Lab::uuid(1)].verdict, expect, "{now}");
    }
}
