//! Which VMs that no inventory knows are kept from running on.

use std::{collections::BTreeMap, time::Duration};

use detector_common::settings::Mode;

use super::processes::process;
use crate::{
    decide::Guard,
    model::{
        BlastLimits, Curb, Curbed, FindingKind, Health, ProcessId, Timestamp, VmProcess, Word,
    },
    testing::{Lab, MINUTE},
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

/// As the daemon does: nothing is done before it is written down.
fn settle(lab: &mut Lab) -> Vec<u32> {
    for _ in 0..4 {
        let decision = lab.decide();
        let before =
            std::mem::replace(&mut lab.world.recorded.mitigations, decision.mitigations.clone());
        let told = decision.curb.keys().map(|id| (*id, Curbed::Suspended));
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
