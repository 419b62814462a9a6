//! VMs are brought back, step by step, and wherever the daemon is killed.

mod deeds;
mod people;

use std::collections::BTreeMap;

use detector_common::quarantine::Cause;
use detector_core::{
    model::QuarantineTarget,
    remediate::{Deed, Means, Outcome, Stage, Step, Workflow},
};

use deeds::until_ordered;

use super::*;
use crate::{
    api::{ErrorCode, schema::TargetSpec, view::RemediationView},
    daemon::remediation::{Report, Running},
    remediate::{
        Recalled,
        hands::{Done, Failed, Progress},
    },
};

const PATCHED: Digest = Digest([8; 32]);
const VM: &str = "web";

/// What outlasts a daemon besides the kernel: what is written down, and what the VM boots from.
struct Disk {
    workflows: BTreeMap<Uuid, Workflow>,
    image: Digest,
    power: PowerState,
    /// Why nothing can be written.
    full: bool,
    /// What hands were asked for.
    deeds: Vec<Step>,
}

impl Disk {
    fn new() -> Self {
        let (workflows, deeds) = (BTreeMap::new(), Vec::new());
        Self { workflows, image: FOUND, power: PowerState::Running, full: false, deeds }
    }

    fn vm(&self) -> Vm {
        Vm { power: self.power, ..vm(VM, 1, "vnet0") }
    }
}

fn means(approvals: u8) -> Means {
    let can = [Deed::Evidence, Deed::Provision, Deed::Replace].map(|deed| (deed, Ok(())));
    let provisioners = [("offline".to_owned(), false)].into();
    Means { sandbox: true, approvals, deeds: can.into(), provisioners }
}

fn started(disk: &Disk, approvals: u8) -> Input {
    let workflows = disk.workflows.values().cloned().collect();
    Input::Remediations(Recalled { workflows, lost: None }, means(approvals))
}

/// A rogue VM that is quarantined by verdict.
fn rogue(disk: &Disk, approvals: u8) -> Host {
    let mut host = Host::new(Mode::Enforce);
    cut_off(&mut host, disk, approvals);
    host
}

fn cut_off(host: &mut Host, disk: &Disk, approvals: u8) {
    host.turn(vec![started(disk, approvals)]);
    host.turn(vec![tap(10, "vnet0"), listing(vec![disk.vm()])]);
    host.read(|_| disk.image);
    assert_eq!(host.port(10), Port::Isolated);
}

/// The daemon is killed and begins anew over what the kernel and the disk hold.
fn killed(host: &mut Host, disk: &Disk) -> Host {
    let state = std::mem::take(&mut host.kernel().state);
    let kernel = FakeKernel { ticks: host.now, state, ..FakeKernel::default() };
    let mut next = Host::new(Mode::Enforce);
    next.now = host.now;
    next.calls = 1_000;
    next.brain = Host::brain(Mode::Enforce, kernel);
    let first = vec![
        Input::Link(LinkEvent::Resynced(vec![bridge(), link(10, "vnet0")])),
        Input::Registry(registry()),
        started(disk, 1),
    ];
    next.effects = next.brain.begin(Timestamp(next.now), first);
    next.turn(vec![listing(vec![disk.vm()])]);
    next.read(|_| disk.image);
    next
}

/// Carries out the next thing that is wanted of the world outside; what the brain would hear of it.
fn carry_out(host: &mut Host, disk: &mut Disk) -> Option<Input> {
    let wanted = host.effects.iter().position(|effect| {
        matches!(
            effect,
            Effect::KeepWorkflow { .. } | Effect::Remedy { .. } | Effect::Gather { .. }
        )
    });
    Some(match host.effects.remove(wanted?) {
        Effect::KeepWorkflow { workflow, .. } => {
            let (vm, revision) = (workflow.vm, workflow.revision);
            let result = if disk.full { Err("no space".to_owned()) } else { Ok(()) };
            if result.is_ok() {
                disk.workflows.insert(vm, *workflow);
            }
            Input::WorkflowKept { vm, revision, result }
        }
        Effect::Remedy { deed, patient, .. } => {
            let step = deed.step;
            assert_eq!(patient.source, LIBVIRT, "{step:?}");
            // It is on the disk that it begins.
            let kept = disk.workflows[&patient.uuid].current().unwrap();
            assert!(kept.step == step && kept.has_begun(), "{step:?}: {kept:?}");
            disk.deeds.push(step);
            if step == Step::Provision {
                disk.image = PATCHED;
            }
            let successor = (step == Step::Replace).then(|| uuid(9));
            let done = Done { says: "done".to_owned(), successor, ..Done::default() };
            Input::Remedied { vm: patient.uuid, deed, report: Report::Ended(Ok(done)) }
        }
        Effect::Gather { file, ticket } => {
            let evidence = chain(&file.path, disk.image);
            Input::Evidence { file, ticket, evidence }
        }
        other => panic!("{other:?}"),
    })
}

/// The same, and the brain hears of it; false when nothing is wanted.
fn serve(host: &mut Host, disk: &mut Disk) -> bool {
    let Some(input) = carry_out(host, disk) else { return false };
    host.turn(vec![input]);
    true
}

/// Lets everything happen that follows.
fn rest(host: &mut Host, disk: &mut Disk) {
    for _ in 0..200 {
        if !serve(host, disk) {
            host.turn(vec![Input::Tick]);
            if !host.effects.iter().any(|effect| {
                matches!(
                    effect,
                    Effect::KeepWorkflow { .. } | Effect::Remedy { .. } | Effect::Gather { .. }
                )
            }) {
                return;
            }
        }
    }
    panic!("never comes to rest");
}

/// What somebody asks, answered once it is on the disk.
fn ask(host: &mut Host, disk: &mut Disk, uid: u32, request: Request) -> Result<Reply, ApiError> {
    host.calls += 1;
    let id = host.calls;
    host.turn(vec![Input::Request { id, uid, request }]);
    for _ in 0..20 {
        if let Some(answer) = host.answer(id) {
            return answer;
        }
        assert!(serve(host, disk), "nobody answers");
    }
    panic!("nobody answers");
}

fn start(outcome: Outcome) -> Request {
    Request::RemediateStart {
        vm: VM.to_owned(),
        outcome,
        reason: "ticket 42".to_owned(),
        digests: Vec::new(),
        alike: false,
    }
}

fn patched() -> Outcome {
    Outcome::Patched { provisioner: Some("offline".to_owned()) }
}

fn approve(digest: Digest) -> Request {
    Request::RemediateApprove {
        vm: VM.to_owned(),
        digests: vec![digest],
        reason: "looked at".to_owned(),
    }
}

fn view(host: &mut Host) -> RemediationView {
    let reply = host.ask(Request::RemediateStatus { vm: Some(VM.to_owned()) });
    let Ok(Reply::Remediations(mut views)) = reply else { panic!("{reply:?}") };
    views.remove(0)
}

fn switch(host: &mut Host, disk: &mut Disk, power: PowerState) {
    disk.power = power;
    host.turn(vec![listing(vec![disk.vm()])]);
    rest(host, disk);
}

#[test]
fn a_patched_vm_comes_back_and_is_known_from_then_on() {
    let mut disk = Disk::new();
    let mut host = rogue(&disk, 1);
    let plan = host.ask(Request::RemediatePlan { vm: VM.to_owned(), outcome: patched() });
    let Ok(Reply::RemediationPlan(plan)) = plan else { panic!("{plan:?}") };
    assert!(host.brain.remediation.workflows().next().is_none(), "a plan does nothing");
    assert_eq!(plan.left_out.len(), 1, "{:?}", plan.left_out);

    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    rest(&mut host, &mut disk);
    let target = QuarantineTarget::Vm(uuid(1));
    let held = host.kernel().state.quarantines[&target].clone();
    assert_eq!((held.cause, held.uid), (Cause::Operator, 1000));
    assert!(held.note.contains("ticket 42"), "{}", held.note);
    assert_eq!(disk.deeds, [Step::Evidence, Step::Provision]);
    // By hand it is not lifted meanwhile, and nothing is approved of what runs.
    let release =
        Request::QuarantineRelease { target: TargetSpec::Vm(VM.to_owned()), reason: String::new() };
    let refused = host.ask(release.clone()).unwrap_err();
    assert!(refused.message.contains("remediate abort"), "{}", refused.message);
    let refused = ask(&mut host, &mut disk, 1000, approve(FOUND)).unwrap_err();
    assert!(refused.message.contains("shut it down"), "{}", refused.message);

    switch(&mut host, &mut disk, PowerState::Off);
    assert_eq!(view(&mut host).media[0].sha256, Some(PATCHED.to_string()), "it is read at rest");
    let refused = ask(&mut host, &mut disk, 1000, approve(FOUND)).unwrap_err();
    assert!(refused.message.contains("does not boot from"), "{}", refused.message);
    ask(&mut host, &mut disk, 1000, approve(PATCHED)).unwrap();
    rest(&mut host, &mut disk);
    assert_eq!(view(&mut host).stage, Stage::Verifying);
    // Something else is in its place when it starts.
    disk.image = FOUND;
    switch(&mut host, &mut disk, PowerState::Running);
    let failed = view(&mut host);
    assert!(failed.waits.as_deref().unwrap().contains("template-registered"), "{failed:?}");
    assert!(failed.history.iter().any(|event| event.what.starts_with("verification failed")));
    assert_eq!(host.port(10), Port::Isolated);
    switch(&mut host, &mut disk, PowerState::Off);
    disk.image = PATCHED;
    switch(&mut host, &mut disk, PowerState::Running);
    assert_eq!((view(&mut host).stage, host.port(10)), (Stage::Released, Port::Granted));

    let mut next = killed(&mut host, &disk);
    rest(&mut next, &mut disk);
    assert_eq!(next.port(10), Port::Granted);
    switch(&mut next, &mut disk, PowerState::Off);
    switch(&mut next, &mut disk, PowerState::Running);
    assert_eq!(next.port(10), Port::Granted, "its approval outlasts the daemon");
    // Until somebody takes it back.
    let reject =
        Request::RemediateReject { vm: VM.to_owned(), reason: "it was not enough".to_owned() };
    ask(&mut next, &mut disk, 1000, reject).unwrap();
    rest(&mut next, &mut disk);
    assert_eq!((view(&mut next).stage, next.port(10)), (Stage::Rejected, Port::Isolated));
}

/// Every way that a run of the workflow can be cut off, one after the other.
#[test]
fn wherever_it_is_killed_it_is_taken_up_again() {
    let mut points = 0;
    for (point, done) in (0..).flat_map(|point| [(point, false), (point, true)]) {
        let mut disk = Disk::new();
        let mut host = rogue(&disk, 1);
        let mut left = point;
        let mut step = |host: &mut Host, disk: &mut Disk| {
            // What it wants next is not done any more, or it does not hear of it.
            if left == 0 {
                if done {
                    carry_out(host, disk);
                }
                *host = killed(host, disk);
            }
            left -= i32::from(left >= 0);
            if !serve(host, disk) {
                host.turn(vec![Input::Tick]);
            }
        };
        ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
        for _ in 0..30 {
            step(&mut host, &mut disk);
        }
        disk.power = PowerState::Off;
        host.turn(vec![listing(vec![disk.vm()])]);
        for _ in 0..6 {
            step(&mut host, &mut disk);
        }
        rest(&mut host, &mut disk);
        ask(&mut host, &mut disk, 1000, approve(PATCHED)).unwrap();
        for _ in 0..6 {
            step(&mut host, &mut disk);
        }
        disk.power = PowerState::Running;
        host.turn(vec![listing(vec![disk.vm()])]);
        for _ in 0..16 {
            step(&mut host, &mut disk);
            let stage = disk.workflows[&uuid(1)].stage();
            let is_cut_off = host.port(10) != Port::Granted;
            let may_speak = matches!(stage, Stage::Verifying | Stage::Released);
            assert!(is_cut_off || may_speak, "{point}: {stage:?}");
        }
        rest(&mut host, &mut disk);
        assert_eq!(disk.workflows[&uuid(1)].stage(), Stage::Released, "killed at {point}");
        assert_eq!(host.port(10), Port::Granted, "killed at {point}");
        points = point;
        if left > 0 {
            break;
        }
    }
    assert!(points > 50, "{points}");
}

#[test]
fn an_abort_gives_the_quarantine_of_before_back() {
    let target = QuarantineTarget::Vm(uuid(1));
    let mut disk = Disk::new();
    let mut host = rogue(&disk, 1);
    let before = host.kernel().state.quarantines[&target].clone();
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    rest(&mut host, &mut disk);
    let abort = || Request::RemediateAbort { vm: VM.to_owned(), reason: "not this one".to_owned() };
    // Where the kernel refuses it, that of the remediation stays.
    for refused in ["give-back", "quarantine"] {
        host.kernel().broken.insert(refused.to_owned());
    }
    ask(&mut host, &mut disk, 1001, abort()).unwrap();
    rest(&mut host, &mut disk);
    assert_eq!(host.kernel().state.quarantines[&target].cause, Cause::Operator);
    assert_eq!(host.port(10), Port::Isolated);
    host.kernel().broken.clear();
    host.wait(Duration::from_secs(6));
    rest(&mut host, &mut disk);
    assert_eq!(host.kernel().state.quarantines[&target], before);
    assert_eq!((view(&mut host).stage, host.port(10)), (Stage::Aborted, Port::Isolated));
    assert!(ask(&mut host, &mut disk, 1001, abort()).is_err());
    // It may begin anew.
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
}

#[test]
fn nothing_is_done_that_cannot_be_written_down() {
    let target = QuarantineTarget::Vm(uuid(1));
    let mut disk = Disk::new();
    let mut host = rogue(&disk, 1);
    disk.full = true;
    let refused = ask(&mut host, &mut disk, 1000, start(patched())).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert_eq!(host.kernel().state.quarantines[&target].cause, Cause::Verdict);
    assert!(host.brain.remediation.workflows().next().is_none());
    disk.full = false;
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    disk.full = true;
    host.told();
    for _ in 0..5 {
        serve(&mut host, &mut disk);
    }
    host.wait(Duration::from_millis(1));
    assert!(host.told().contains(&"+remediation-stuck".to_owned()));
    // It is tried again, and goes no further.
    host.wait(Duration::from_secs(6));
    for _ in 0..5 {
        serve(&mut host, &mut disk);
    }
    assert_eq!(host.kernel().state.quarantines[&target].cause, Cause::Verdict);
    assert_eq!(disk.deeds, [], "nothing is begun");
    disk.full = false;
    host.wait(Duration::from_secs(6));
    rest(&mut host, &mut disk);
    assert_eq!(disk.deeds, [Step::Evidence, Step::Provision]);
    assert!(host.told().contains(&"-remediation-stuck".to_owned()));
}

#[test]
fn what_fails_is_told_and_started_once_more() {
    let mut disk = Disk::new();
    let mut host = rogue(&disk, 1);
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    let deed = until_ordered(&mut host, &mut disk);
    let failed = Report::Ended(Err(Failed::Refused("the pool is full\u{1b}[2J".to_owned())));
    host.told();
    let vm = uuid(1);
    // Of a step that nobody has begun nothing is believed.
    let stray = Report::Ended(Ok(Done::default()));
    let other = Running { step: Step::Move, ..deed };
    host.turn(vec![Input::Remedied { vm, deed: other, report: stray }]);
    host.turn(vec![Input::Remedied { vm, deed, report: failed }]);
    rest(&mut host, &mut disk);
    assert!(host.told().contains(&"+remediation-stuck".to_owned()));
    assert!(view(&mut host).waits.unwrap().contains("the pool is full"));
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    rest(&mut host, &mut disk);
    assert_eq!(disk.deeds, [Step::Evidence, Step::Provision]);
}
