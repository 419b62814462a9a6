//! Responses that last: a grace period over a restart of the daemon, and VMs that are suspended once.

use detector_core::{
    decide::policy::{DEFAULT, Rulebook, Rules},
    model::{Graces, Rejected},
};

use std::collections::BTreeSet;

use super::*;
use crate::{api::schema::TargetSpec, inventory::NotDone};

const GRACE: &str = "@id(\"some-time\") @grace(\"1m\") \
                     permit (principal, action == Action::\"grace\", resource);\n";
const PAUSE: &str = "@id(\"hold\") permit (principal, action == Action::\"pause\", resource);\n";
const NO_WEB: &str = "@id(\"no-web\") @sentence(\"No VM is called web.\") \
                      forbid (principal, action == Action::\"join\", resource) \
                      when { principal has name && principal.name == \"web\" };\n";

fn rules(text: &str) -> Input {
    let rules = Rules::parse(&format!("{text}{DEFAULT}")).unwrap();
    Input::Rules(Rulebook { rules: rules.into(), ..Rulebook::default() })
}

/// What was last to be kept.
fn kept(host: &mut Host) -> Option<BTreeMap<Uuid, Timestamp>> {
    let mut kept = None;
    host.effects.retain(|effect| match effect {
        Effect::KeepGraces(graces) => {
            kept = Some(graces.clone());
            false
        }
        _ => true,
    });
    kept
}

fn pauses(host: &mut Host) -> usize {
    let before = host.effects.len();
    host.effects.retain(|effect| !matches!(effect, Effect::Stop { .. }));
    before - host.effects.len()
}

#[test]
fn a_grace_period_outlives_the_daemon_and_is_kept_once() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.turn(vec![rules(&format!("{GRACE}{NO_WEB}"))]);
    let began = host.now;
    assert_eq!(host.port(10), Port::Granted);
    let record = kept(&mut host).expect("its beginning is written down");
    assert_eq!(record, [(uuid(1), Timestamp(began))].into());
    host.wait(Duration::from_secs(30));
    assert_eq!((host.port(10), kept(&mut host)), (Port::Granted, None));

    // Another daemon over the same kernel: half of the time is over.
    let state = std::mem::take(&mut host.kernel().state);
    let mut next = Host::new(Mode::Enforce);
    next.now = host.now;
    next.kernel().state = state;
    let known = Graces { begun: record, lost: None };
    next.turn(vec![Input::Graces(known), rules(&format!("{GRACE}{NO_WEB}"))]);
    next.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
    assert_eq!(next.port(10), Port::Granted, "nothing has been read yet");
    next.read(|_| APPROVED);
    assert_eq!((next.port(10), kept(&mut next)), (Port::Granted, None), "it goes on");
    next.wait(Duration::from_secs(31));
    assert_eq!(next.port(10), Port::Isolated);
    assert_eq!(kept(&mut next), Some(BTreeMap::new()));
}

/// What cannot be kept would begin anew with every restart.
#[test]
fn a_grace_period_that_cannot_be_kept_is_none() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.told();
    host.turn(vec![rules(&format!("{GRACE}{NO_WEB}"))]);
    assert_eq!(host.port(10), Port::Granted);
    let why = Rejected { place: "graces.json".to_owned(), why: "no space".to_owned() };
    host.turn(vec![Input::GracesLost(why)]);
    assert_eq!(host.port(10), Port::Isolated);
    assert!(host.told().contains(&"+entry-rejected".to_owned()));
}

#[test]
fn a_denied_vm_is_suspended_once() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.turn(vec![rules(&format!("{PAUSE}{GRACE}{NO_WEB}"))]);
    assert_eq!((host.port(10), pauses(&mut host)), (Port::Granted, 0), "it has its time first");
    host.wait(Duration::from_secs(61));
    assert_eq!((host.port(10), pauses(&mut host)), (Port::Isolated, 1));
    host.turn(vec![Input::Paused(uuid(1), Ok(()))]);
    let mut paused = vm("web", 1, "vnet0");
    paused.power = PowerState::Paused;
    host.turn(vec![listing(vec![paused])]);
    // A person lets it go on.
    host.turn(vec![listing(vec![vm("web", 1, "vnet0")])]);
    host.wait(Duration::from_secs(60));
    assert_eq!(pauses(&mut host), 0);
    assert!(!host.told().contains(&"+pause-failed".to_owned()));
}

/// What was last to be kept of pauses.
fn pauses_kept(host: &mut Host) -> Option<BTreeSet<Uuid>> {
    let mut kept = None;
    host.effects.retain(|effect| match effect {
        Effect::KeepPauses(pauses) => {
            kept = Some(pauses.clone());
            false
        }
        _ => true,
    });
    kept
}

/// Another daemon over the same kernel, with the VM denied as before.
fn next(host: &mut Host, known: Option<BTreeSet<Uuid>>) -> Host {
    let state = std::mem::take(&mut host.kernel().state);
    let kernel = FakeKernel { ticks: host.now, state, ..FakeKernel::default() };
    let mut next = Host::new(Mode::Enforce);
    next.now = host.now;
    next.brain = Host::brain(Mode::Enforce, kernel);
    next.brain.started = Timestamp(next.now);
    let first = vec![
        Input::Link(LinkEvent::Resynced(vec![bridge(), link(10, "vnet0")])),
        Input::Registry(registry()),
        rules(&format!("{PAUSE}{NO_WEB}")),
        Input::Pauses(known),
    ];
    next.effects = next.brain.begin(Timestamp(next.now), first);
    next.wait(Duration::from_secs(1));
    assert_eq!(pauses(&mut next), 0, "nobody lists it yet");
    next.turn(vec![listing(vec![vm("web", 1, "vnet0")])]);
    next.read(|_| APPROVED);
    next
}

/// Once for each denial, wherever the daemon has crashed in between.
#[test]
fn a_pause_is_asked_for_once_over_crashes() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![Input::Pauses(None)]);
    assert_eq!(pauses_kept(&mut host), Some(BTreeSet::new()), "from now on it is known");
    host.approved();
    host.turn(vec![rules(&format!("{PAUSE}{NO_WEB}"))]);
    assert_eq!(
        (pauses(&mut host), pauses_kept(&mut host)),
        (1, None),
        "nothing has come of it yet"
    );

    // It crashes before libvirt has answered, or was asked at all: what is quarantined is so already.
    let mut second = next(&mut host, Some(BTreeSet::new()));
    assert_eq!((second.port(10), pauses(&mut second)), (Port::Isolated, 1));
    second.turn(vec![Input::Paused(uuid(1), Err(NotDone::Refused("it hangs".to_owned())))]);
    assert_eq!(pauses_kept(&mut second), None);
    let mut third = next(&mut second, Some(BTreeSet::new()));
    assert_eq!(pauses(&mut third), 1);
    third.turn(vec![Input::Paused(uuid(1), Ok(()))]);
    let kept = pauses_kept(&mut third).expect("it is written down");
    assert_eq!(kept, [uuid(1)].into());

    // A person lets it go on.
    let mut fourth = next(&mut third, Some(kept));
    fourth.wait(Duration::from_secs(60));
    assert_eq!((pauses(&mut fourth), pauses_kept(&mut fourth)), (0, None));
    // When the denial is over it is forgotten, and another one is another one.
    fourth.turn(vec![rules(PAUSE)]);
    let target = TargetSpec::Vm("web".to_owned());
    fourth.ask(Request::QuarantineRelease { target, reason: String::new() }).unwrap();
    assert_eq!((fourth.port(10), pauses_kept(&mut fourth)), (Port::Granted, Some(BTreeSet::new())));
    fourth.turn(vec![rules(&format!("{PAUSE}{NO_WEB}"))]);
    assert_eq!((fourth.port(10), pauses(&mut fourth)), (Port::Isolated, 1));

    // Where nobody knows, a person may have let it go on.
    let mut fifth = next(&mut fourth, None);
    assert_eq!((pauses(&mut fifth), pauses_kept(&mut fifth)), (0, Some([uuid(1)].into())));
    fifth.told();
    fifth.turn(vec![Input::PausesKept(Err("no space".to_owned()))]);
    assert_eq!(fifth.told(), ["+pause-failed"]);
}

/// Nothing has come of what libvirt has not heard of, and so nothing is kept.
#[test]
fn a_pause_that_libvirt_has_not_heard_of_is_asked_for_again() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![Input::Pauses(None)]);
    host.approved();
    host.turn(vec![rules(&format!("{PAUSE}{NO_WEB}"))]);
    pauses_kept(&mut host);
    for _ in 0..2 {
        assert_eq!(pauses(&mut host), 1);
        let why = NotDone::Unasked("no connection".to_owned());
        host.turn(vec![Input::Paused(uuid(1), Err(why))]);
        assert_eq!((pauses(&mut host), pauses_kept(&mut host)), (0, None));
        host.wait(Duration::from_secs(5));
    }
    assert_eq!(pauses(&mut host), 1);
    host.turn(vec![Input::Paused(uuid(1), Ok(()))]);
    assert_eq!(pauses_kept(&mut host), Some([uuid(1)].into()));
}

/// Else it would spin.
#[test]
fn what_is_late_wakes_once() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.turn(vec![rules(&format!("{PAUSE}{NO_WEB}"))]);
    host.wait(Duration::from_secs(11));
    assert!(host.brain.wake_at().is_none_or(|at| at > Timestamp(host.now)));
}

#[test]
fn who_is_not_to_be_suspended_is_not() {
    for (mode, text) in [(Mode::Observe, PAUSE), (Mode::Enforce, "")] {
        let mut host = Host::new(mode);
        host.approved();
        host.turn(vec![rules(&format!("{text}{NO_WEB}"))]);
        host.wait(Duration::from_secs(5));
        assert_eq!((host.port(10), pauses(&mut host)), (Port::Isolated, 0), "{mode:?} {text}");
    }
}

#[test]
fn a_vm_that_goes_on_running_is_a_finding() {
    for refused in [true, false] {
        let mut host = Host::new(Mode::Enforce);
        host.approved();
        host.told();
        host.turn(vec![rules(&format!("{PAUSE}{NO_WEB}"))]);
        assert_eq!(pauses(&mut host), 1);
        assert_eq!(host.told(), ["+rogue-vm"]);
        if refused {
            host.turn(vec![Input::Paused(
                uuid(1),
                Err(NotDone::Refused("access denied".to_owned())),
            )]);
        } else {
            // Libvirt hangs.
            host.wait(Duration::from_secs(11));
        }
        assert_eq!(host.told(), ["+pause-failed"], "refused: {refused}");
        assert_eq!(pauses(&mut host), 0, "once");
        let mut paused = vm("web", 1, "vnet0");
        paused.power = PowerState::Paused;
        host.turn(vec![listing(vec![paused])]);
        assert_eq!(host.told(), ["-pause-failed"]);
    }
}
