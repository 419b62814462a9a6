//! What a revocation does to VMs that run, and to those that do not yet.

use std::time::Duration;

use detector_common::settings::Mode;

use crate::{
    decide::{PortStatus, VmStatus, decide},
    model::{FindingKind, Revoked, TemplateStatus, Timestamp},
    testing::{Lab, MINUTE},
};

const NAME: &str = "debian-12";

/// A lab with VM 1 in force, whose template is then revoked, and VM 2 that starts afterwards.
fn revoked(mode: Mode, policy: Revoked, grace: Duration, since: Option<Timestamp>) -> Lab {
    let mut lab = Lab::with_vms(mode, 1);
    lab.settle();
    lab.template(NAME).expires = None;
    lab.template(NAME).status = TemplateStatus::Revoked;
    lab.template(NAME).since = since;
    lab.world.policy.revoked = policy;
    lab.world.policy.revoked_grace = grace;
    lab.add_vm(2);
    lab
}

fn status(lab: &Lab, n: u8) -> (VmStatus, PortStatus) {
    let decision = decide(&lab.world);
    let port = lab.world.links.values().find(|link| link.name == format!("vnet{n}")).unwrap();
    (decision.vms[&Lab::uuid(n)].status, decision.ports[&port.ifindex].status)
}

#[test]
fn running_vms_have_a_grace_period_and_new_ones_have_none() {
    const KEPT: (VmStatus, PortStatus) = (VmStatus::Pending, PortStatus::Kept);
    const DENIED: (VmStatus, PortStatus) = (VmStatus::Denied, PortStatus::Isolated);
    let now = Lab::new(Mode::Observe).world.now;
    let earlier = Timestamp(now.0 - 60_000);
    let cases = [
        ("at once", Revoked::Quarantine, Duration::ZERO, Some(now), DENIED),
        ("a grace period", Revoked::Quarantine, 2 * MINUTE, Some(earlier), KEPT),
        ("its last moment", Revoked::Quarantine, MINUTE, Some(Timestamp(earlier.0 + 1)), KEPT),
        ("its end", Revoked::Quarantine, MINUTE, Some(earlier), DENIED),
        ("nobody knows since when", Revoked::Quarantine, 60 * MINUTE, None, DENIED),
        ("a finding only", Revoked::Finding, Duration::ZERO, None, KEPT),
    ];
    for mode in [Mode::Observe, Mode::Enforce] {
        for (name, policy, grace, since, expected) in cases {
            let lab = revoked(mode, policy, grace, since);
            assert_eq!(status(&lab, 1), expected, "{name}, in force");
            assert_eq!(status(&lab, 2), DENIED, "{name}, new");
            let findings = decide(&lab.world).findings;
            let told = findings.iter().any(|one| one.key.kind == FindingKind::RevokedTemplate);
            assert_eq!(told, expected == KEPT, "{name}: {findings:?}");
        }
    }
}

#[test]
fn the_end_of_the_grace_period_is_acted_upon_by_itself() {
    let now = Lab::new(Mode::Enforce).world.now;
    let mut lab = revoked(Mode::Enforce, Revoked::Quarantine, MINUTE, Some(now));
    lab.template(NAME).reason = Some("CVE-2026-1".to_owned());
    lab.settle();
    let decision = decide(&lab.world);
    assert_eq!(decision.wake_at, Some(now + MINUTE));
    let finding = decision.findings.iter().find(|f| f.key.kind == FindingKind::RevokedTemplate);
    let finding = format!("{:?}", finding.unwrap());
    assert!(finding.contains("CVE-2026-1") && finding.contains("deadline"), "{finding}");
    lab.pass(MINUTE);
    lab.settle();
    assert_eq!(status(&lab, 1), (VmStatus::Quarantined, PortStatus::Isolated));
    // Approved again it stays in quarantine, which a person lifts.
    lab.template(NAME).status = TemplateStatus::Approved;
    assert_eq!(status(&lab, 1).0, VmStatus::Quarantined);
}
