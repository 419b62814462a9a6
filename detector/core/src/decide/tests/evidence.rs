//! Which media are read.

use detector_common::settings::Mode;

use crate::{
    decide::VmStatus,
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

/// Stronger evidence than is asked for always does, weaker never.
#[test]
fn levels_are_in_order() {
    use EvidenceLevel::{Certificate, Declared, Digest};
    type Show = fn(&mut Lab);
    let shown: [(EvidenceLevel, Show); 3] = [
        (Digest, |lab| lab.base(1, BASE)),
        (Certificate, |lab| {
            lab.base(1, BASE);
            for evidence in lab.world.evidence.values_mut() {
                if let Evidence::Chain(chain) = evidence {
                    chain.at_birth = true;
                }
            }
        }),
        (Declared, |lab| {
            lab.base(1, crate::testing::UNKNOWN);
            lab.vm(1).declared_template = Some("debian-12".to_owned());
        }),
    ];
    for (level, show) in shown {
        for asked in [Declared, Certificate, Digest] {
            let mut lab = Lab::with_vms(Mode::Enforce, 1);
            lab.world.policy.evidence = asked;
            show(&mut lab);
            let status = lab.decide().vms[&Lab::uuid(1)].status;
            let expect = if level >= asked { VmStatus::Approved } else { VmStatus::Denied };
            assert_eq!(status, expect, "{level:?} where {asked:?} is asked for");
        }
    }
}
