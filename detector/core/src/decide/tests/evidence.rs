//! Which media are read.

use detector_common::settings::Mode;

use crate::{
    model::{Evidence, EvidenceLevel, Medium, MediumRole, MediumSource, PowerState},
    testing::{BASE, Lab},
};

#[test]
fn only_what_a_verdict_hangs_on_is_read() {
    type Case = (&'static str, fn(&mut Lab), usize);
    let cases: &[Case] = &[
        ("known", |_| (), 0),
        ("new", |lab| lab.evidence(1, None), 1),
        ("being read", |lab| lab.evidence(1, Some(Evidence::Pending)), 0),
        (
            "off",
            |lab| {
                lab.evidence(1, None);
                lab.vm(1).power = PowerState::Off;
            },
            0,
        ),
        (
            "denied anyway",
            |lab| {
                lab.evidence(1, None);
                let source = MediumSource::Remote("network boot".to_owned());
                lab.vm(1).media.push(Medium { role: MediumRole::Network, source });
            },
            0,
        ),
        (
            "declared",
            |lab| {
                lab.evidence(1, None);
                lab.world.policy.evidence = EvidenceLevel::Declared;
                lab.vm(1).declared_template = Some("debian-12".to_owned());
            },
            0,
        ),
    ];
    for (name, change, wanted) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 2);
        change(&mut lab);
        assert_eq!(lab.decide().wanted.len(), *wanted, "{name}");
    }
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.base(1, BASE);
    assert_eq!(lab.decide().vms[&Lab::uuid(1)].template.as_deref(), Some("debian-12"));
}
