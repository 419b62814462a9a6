//! Which VMs that no inventory knows are kept from running on.

use std::{collections::BTreeMap, time::Duration};

use detector_common::settings::Mode;

use super::processes::process;
use crate::{
    decide::{Guard, PortStatus},
    model::{
        BlastLimits, Curb, Curbed, FindingKind, Health, ProcessId, Processes, Severity, Timestamp,
        VmProcess, Word,
    },
    testing::{Lab, MINUTE, UNKNOWN},
};

const WINDOW: Duration = Duration::from_secs(600);
const STRAY: u32 = 4000;

fn lab() -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.world.policy.curb = Some(Curb::Suspend);
    put(&mut lab, process(STRAY));
    lab.settle();
    lab
}

fn put(lab: &mut Lab, process: VmProcess) {
    lab.world.processes.found.insert(process.id, process);
}

fn curbed(lab: &mut Lab) -> Vec<u32> {
    lab.decide().curb.keys().map(|id| id.pid).collect()
}

#[test]
fn a_process_stands_among_vms_and_is_none() {
    for id in
        [ProcessId { pid: 1, started: 0 }, ProcessId { pid: u32::MAX, started: (1 << 62) - 1 }]
    {
        assert_eq!(ProcessId::of_uuid(id.uuid()), Some(id));
    }
    assert_eq!(ProcessId::of_uuid(Lab::uuid(1)), None);
    assert_eq!(ProcessId::of_uuid(uuid::Uuid::from_u128(5)), None);
}

#[test]
fn only_what_is_a_vm_for_certain_and_nobodys() {
    type Case = (&'static str, fn(&mut Lab), bool);
    let cases: &[Case] = &[
        ("as it is", |_| (), true),
        ("nobody wants it", |lab| lab.world.policy.curb = None, false),
        ("observed", |lab| lab.switch(Mode::Observe), false),
        ("a source is silent", |lab| lab.lose(), false),
        (
            "the scan has failed",
            |lab| lab.world.processes.lost = Some((Timestamp(1), "no /proc".to_owned())),
            false,
        ),
        (
            "it has just begun",
            |lab| put(lab, VmProcess { lasting: false, ..process(STRAY) }),
            false,
        ),
        (
            "it holds what VMs are made of, and runs none",
            |lab| put(lab, VmProcess { program: None, ..process(STRAY) }),
            false,
        ),
        (
            "its manager has recorded it",
            |lab| put(lab, VmProcess { recorded: Some("vm9".to_owned()), ..process(STRAY) }),
            false,
        ),
        (
            "an inventory knows it",
            |lab| put(lab, VmProcess { recorded: Some("vm1".to_owned()), ..process(STRAY) }),
            false,
        ),
    ];
    for (name, change, expect) in cases {
        let mut lab = lab();
        change(&mut lab);
        lab.settle();
        assert_eq!(curbed(&mut lab) == [STRAY], *expect, "{name}");
    }
}

#[test]
fn losing_a_source_changes_nothing_for_who_is_suspended() {
    let mut lab = lab();
    assert_eq!(settle(&mut lab), [STRAY]);
    put(&mut lab, process(STRAY + 1));
    lab.lose();
    assert_eq!(settle(&mut lab), [STRAY]);
}

fn settle(lab: &mut Lab) -> Vec<u32> {
    settle_as(lab, &Curbed::Suspended)
}

/// As the daemon does: nothing is done before it is written down. This becomes of what is done.
fn settle_as(lab: &mut Lab, state: &Curbed) -> Vec<u32> {
    for _ in 0..12 {
        let (decision, _) = lab.settle();
        let before =
            std::mem::replace(&mut lab.world.recorded.mitigations, decision.mitigations.clone());
        let told = decision.curb.keys().map(|id| (*id, state.clone()));
        let told: BTreeMap<_, _> = told.collect();
        let done = before == decision.mitigations && told == lab.world.processes.curbed;
        lab.world.processes.curbed = told;
        if done {
            return curbed(lab);
        }
    }
    panic!("never comes to rest");
}

#[test]
fn the_guard_holds_what_would_be_too_many() {
    let mut lab = lab();
    lab.world.policy.blast = Some(BlastLimits { vms: 1, percent: 100, window: WINDOW });
    assert_eq!(curbed(&mut lab), [] as [u32; 0], "nothing before it is written down");
    put(&mut lab, process(STRAY + 1));
    assert_eq!(settle(&mut lab), [STRAY]);
    // One that does not run on is not counted anew when the window is over, nor let go on.
    lab.pass(WINDOW + MINUTE);
    assert_eq!(settle(&mut lab), [STRAY]);
    let decision = lab.decide();
    let blast = decision.findings.iter().find(|one| one.key.kind == FindingKind::BlastRadius);
    assert!(format!("{blast:?}").contains("process 4001, which no inventory knows"), "{blast:?}");
    let unknown = decision.findings.iter().filter(|f| f.key.kind == FindingKind::UnknownVmProcess);
    let said: Vec<_> = unknown.map(|finding| format!("{:?}", finding.evidence)).collect();
    assert!(said[0].contains("it is suspended") && said[1].contains("it is held"), "{said:?}");

    let held = ProcessId { pid: STRAY + 1, started: 7 }.uuid();
    let word = Word { approves: true, uid: 7, at: lab.world.now, why: "seen".to_owned() };
    lab.world.recorded.mitigations.held.get_mut(&held).expect("it is held").word = Some(word);
    assert_eq!(settle(&mut lab), [STRAY, STRAY + 1]);
    // What has ended is not remembered.
    lab.world.processes.found.clear();
    settle(&mut lab);
    assert!(lab.world.recorded.mitigations.held.is_empty());
    assert!(lab.decide().vms.values().all(|vm| vm.guard == Guard::Clear));
    assert_eq!(lab.manager().health, Health::Healthy);
}

/// Nobody is forgotten who cannot be judged for a while, nor what a person has said.
#[test]
fn what_is_held_stays_held_while_nobody_can_say() {
    type Blind = fn(&mut Lab);
    let cases: &[(&str, Blind)] = &[
        ("a source is silent", |lab| lab.lose()),
        ("the scan has failed", |lab| {
            lab.world.processes.lost = Some((Timestamp(1), "no /proc".to_owned()));
        }),
        ("the daemon has begun anew", |lab| lab.world.processes = Processes::default()),
        ("observed", |lab| lab.switch(Mode::Observe)),
    ];
    for (name, blind) in cases {
        let mut lab = lab();
        lab.world.policy.blast = Some(BlastLimits { vms: 1, percent: 100, window: WINDOW });
        put(&mut lab, process(STRAY + 1));
        assert_eq!(settle(&mut lab), [STRAY]);
        let held = ProcessId { pid: STRAY + 1, started: 7 }.uuid();
        let word = Word { approves: false, uid: 7, at: lab.world.now, why: "it stays".to_owned() };
        let mitigations = &mut lab.world.recorded.mitigations;
        mitigations.held.get_mut(&held).expect("it is held").word = Some(word.clone());
        blind(&mut lab);
        lab.settle();
        let next = lab.decide().mitigations;
        assert_eq!(next.held.get(&held).and_then(|hold| hold.word.clone()), Some(word), "{name}");
    }
}

/// Anybody may run as many of them as they like: that uses nothing up of what is allowed for VMs.
#[test]
fn strays_keep_no_denied_vm_connected() {
    let limits = BlastLimits { vms: 2, percent: 100, window: WINDOW };
    for state in [Curbed::Suspended, Curbed::Refused("no CAP_KILL".to_owned())] {
        let mut lab = lab();
        lab.world.policy.blast = Some(limits);
        (1..10).for_each(|n| put(&mut lab, process(STRAY + n)));
        // The others wait for a person, whatever has become of these.
        assert_eq!(settle_as(&mut lab, &state), [STRAY, STRAY + 1]);
        let is_refused = state != Curbed::Suspended;
        let counted = lab.world.recorded.mitigations.taken.len();
        assert_eq!(counted, if is_refused { 0 } else { 2 }, "{state:?}");

        lab.base(1, UNKNOWN);
        settle_as(&mut lab, &state);
        let decision = lab.decide();
        let vm = Lab::uuid(1);
        assert_eq!(decision.vms[&vm].guard, Guard::Clear, "{state:?}");
        assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Isolated, "{state:?}");
        let text = format!("{:?}", decision.findings);
        assert!(text.contains("8 VMs would be cut off"), "{text}");
        // What goes on all the same has lost nothing, and is not counted with each window anew.
        lab.pass(WINDOW + MINUTE);
        settle_as(&mut lab, &state);
        let strays = lab.world.recorded.mitigations.taken.keys().filter(|uuid| **uuid != vm);
        assert_eq!(strays.count(), 0, "{state:?}");
        let goes_on = |f: &&crate::model::Finding| f.key.kind == FindingKind::PauseFailed;
        let told: Vec<_> = decision.findings.iter().filter(goes_on).collect();
        assert_eq!(told.len(), if is_refused { 2 } else { 0 });
        assert!(told.iter().all(|one| one.severity == Severity::High), "{told:?}");
    }
}

/// And denied VMs use nothing up of what is allowed for strays.
#[test]
fn denied_vms_and_strays_are_counted_by_themselves() {
    let mut lab = Lab::with_vms(Mode::Enforce, 4);
    lab.world.policy.curb = Some(Curb::Suspend);
    lab.world.policy.blast = Some(BlastLimits { vms: 10, percent: 50, window: WINDOW });
    lab.settle();
    (1..=4).for_each(|n| lab.base(n, UNKNOWN));
    (0..4).for_each(|n| put(&mut lab, process(STRAY + n)));
    assert_eq!(settle(&mut lab), [STRAY, STRAY + 1]);
    let decision = lab.decide();
    let held = decision.vms.values().filter(|vm| vm.guard.held().is_some()).count();
    let taken = &decision.mitigations.taken;
    assert_eq!((held, taken.len(), decision.mitigations.held.len()), (2, 4, 4));
    let text = format!("{:?}", decision.findings);
    let said = ["(\"cut off within that time\", \"2\")", "running on within that time\", \"2\")"];
    assert!(said.iter().all(|said| text.contains(said)), "{text}");
}

/// Whoever defines a VM may give it a UUID that looks like what stands for a process.
#[test]
fn a_vm_is_held_and_approved_whatever_its_uuid_is() {
    let uuid = ProcessId { pid: STRAY, started: 99 }.uuid();
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    let mut vm = lab.manager().vms.remove(&Lab::uuid(1)).expect("a VM");
    vm.uuid = uuid;
    lab.manager().vms.insert(uuid, vm);
    lab.world.policy.blast = Some(BlastLimits { vms: 0, percent: 100, window: WINDOW });
    lab.settle();
    lab.base(1, UNKNOWN);
    settle(&mut lab);
    assert!(lab.decide().vms[&uuid].guard.held().is_some());
    let text = format!("{:?}", lab.decide().findings);
    assert!(text.contains("1 VM would be cut off"), "it is told once, and as a VM: {text}");
    let word = Word { approves: true, uid: 7, at: lab.world.now, why: "seen".to_owned() };
    lab.world.recorded.mitigations.held.get_mut(&uuid).expect("it is held").word = Some(word);
    settle(&mut lab);
    let decision = lab.decide();
    assert_eq!(decision.vms[&uuid].guard, Guard::Clear);
    assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Isolated);
}
