//! Quarantines that are recalled where the kernel's maps were made anew.

use detector_common::quarantine::Cause;
use detector_core::model::{FindingKind, Quarantine, QuarantineTarget};

use crate::quarantines::{Kept, Recalled};

use super::*;

const PORT: QuarantineTarget = QuarantineTarget::Port { ifindex: 10, instance: 77 };

fn kept(target: QuarantineTarget, port: Option<&str>) -> Kept {
    let quarantine = Quarantine::new(target, Timestamp(1), Cause::Operator, 1000, "incident 42");
    Kept { quarantine, port: port.map(str::to_owned) }
}

fn recalled(quarantines: Vec<Kept>) -> Input {
    Input::Recalled(Recalled { quarantines, ..Recalled::default() })
}

/// What is there at the start: the tap, and a VM whose evidence is found at once.
fn approve(host: &mut Host, first: Input) {
    host.turn(vec![tap(10, "vnet0"), first, listing(vec![vm("web", 1, "vnet0")])]);
    host.read(|_| APPROVED);
}

fn is_told(host: &Host, kind: FindingKind) -> bool {
    host.effects.iter().any(|effect| {
        matches!(effect, Effect::Tell(Change::Opened(finding)) if finding.key.kind == kind)
    })
}

/// What was written down last.
fn written(host: &Host) -> Vec<Kept> {
    let kept = host.effects.iter().rev().find_map(|effect| match effect {
        Effect::KeepQuarantines(kept) => Some(kept.clone()),
        _ => None,
    });
    kept.unwrap()
}

#[test]
fn what_was_quarantined_is_isolated_from_the_first() {
    let mac = QuarantineTarget::Mac(Mac([0x52, 0x54, 0, 0, 0, 1]));
    let cases = [
        kept(QuarantineTarget::Vm(uuid(1)), None),
        kept(mac, None),
        // Its numbers are those of before; the name is what says that it is the same one.
        kept(PORT, Some("vnet0")),
    ];
    for kept in cases {
        let mut host = Host::new(Mode::Enforce);
        approve(&mut host, recalled(vec![kept.clone()]));
        assert_eq!(host.port(10), Port::Isolated, "{kept:?}");
        let log = host.kernel().taken();
        assert!(!log.iter().any(|step| step.starts_with("pin 10")), "{log:?}");
        let [now] = &written(&host)[..] else { panic!("{:?}", written(&host)) };
        assert_eq!(now.quarantine.note, kept.quarantine.note);
        assert_eq!(now.port, kept.port);
    }
}

#[test]
fn a_quarantine_ends_with_its_port_and_says_so() {
    for input in [
        recalled(vec![kept(PORT, Some("vnet7"))]),
        Input::Recalled(Recalled { ended: vec![kept(PORT, Some("vnet7"))], ..Recalled::default() }),
    ] {
        let mut host = Host::new(Mode::Enforce);
        approve(&mut host, input);
        assert_eq!(host.port(10), Port::Granted);
        assert!(is_told(&host, FindingKind::QuarantineEnded));
        assert!(host.kernel().state.quarantines.is_empty());
    }
}

#[test]
fn nothing_is_admitted_while_it_is_not_known_or_not_in_force() {
    let unreadable =
        || Input::Recalled(Recalled { lost: Some("damaged".into()), ..Recalled::default() });
    let mut host = Host::new(Mode::Enforce);
    approve(&mut host, unreadable());
    assert_eq!(host.port(10), Port::Mute);
    host.wait(Duration::from_secs(3));
    assert!(is_told(&host, FindingKind::SourceLost));
    host.turn(vec![recalled(Vec::new())]);
    assert_eq!(host.port(10), Port::Granted, "a person has seen to it");
    host.turn(vec![unreadable()]);
    assert_eq!(host.port(10), Port::Granted, "what is in force stays");

    let mut host = Host::new(Mode::Enforce);
    host.kernel().broken.insert("quarantine".to_owned());
    approve(&mut host, recalled(vec![kept(QuarantineTarget::Vm(uuid(9)), None)]));
    assert_eq!(host.port(10), Port::Mute);
    assert_eq!(written(&host).len(), 1, "it is not forgotten");
    host.kernel().broken.clear();
    host.wait(Duration::from_secs(3));
    assert_eq!(host.port(10), Port::Granted);
    assert_eq!(host.kernel().state.quarantines.len(), 1);
}
