mod contained;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use detector_common::quarantine::{Cause, QuarantineMode};
use uuid::Uuid;

use super::*;
use crate::{
    decide::{Outcome as Met, Requirement, VmDecision, VmStatus},
    model::{Digest, Image, MediumRole, PowerState, Quarantine, QuarantineTarget, Timestamp},
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const VM: Uuid = Uuid::from_u128(7);
const ROGUE: Digest = Digest([9; 32]);
const PATCHED: Digest = Digest([8; 32]);
const KERNEL: Digest = Digest([1; 32]);

/// A VM that its ports hold, one without any, and one that has another way out as well.
const HELD: Ways = Ways { guarded: true, unguarded: false, placed: true };
const NONE: Ways = Ways { guarded: false, unguarded: false, placed: false };
const MIXED: Ways = Ways { unguarded: true, placed: false, ..HELD };

const EVERY_DEED: [Deed; 5] =
    [Deed::Evidence, Deed::Contain, Deed::Move, Deed::Provision, Deed::Replace];

/// A VM that is remediated, and what is to be seen of it.
struct Case {
    workflow: Workflow,
    means: Means,
    power: Option<PowerState>,
    unguarded: bool,
    quarantine: Option<Quarantine>,
    media: Vec<SightedMedium>,
    reading: bool,
    verdict: Option<VmDecision>,
}

fn means(deeds: &[Deed], approvals: u8) -> Means {
    let can = |deed: Deed| match deeds.contains(&deed) {
        true => Ok(()),
        false => Err(format!("{} is not there", deed.as_str())),
    };
    let deeds: BTreeMap<_, _> = EVERY_DEED.into_iter().map(|deed| (deed, can(deed))).collect();
    let provisioners = [("offline", false), ("p", true)];
    let provisioners = provisioners.map(|(name, runs)| (name.to_owned(), runs)).into();
    Means { sandbox: true, approvals, deeds, provisioners }
}

fn by(uid: u32) -> By {
    By { uid, at: NOW, why: "a test".to_owned() }
}

fn patched() -> Outcome {
    Outcome::Patched { provisioner: None }
}

fn medium(role: MediumRole, digest: Digest, known: bool) -> SightedMedium {
    let path = PathBuf::from(format!("/images/{}", role.as_str()));
    SightedMedium { role, path, shown: Shown::Digest(digest), own: !known, known }
}

impl Case {
    fn new(outcome: Outcome, deeds: &[Deed], approvals: u8) -> Self {
        let means = means(deeds, approvals);
        let plan = plan(&outcome, &means, HELD).unwrap();
        let workflow =
            Workflow::start((VM, "web"), outcome, plan, by(1000), approvals, None, None).unwrap();
        Self {
            workflow,
            means,
            power: Some(PowerState::Off),
            unguarded: false,
            quarantine: None,
            media: vec![
                medium(MediumRole::Disk, ROGUE, false),
                medium(MediumRole::Kernel, KERNEL, true),
            ],
            reading: false,
            verdict: None,
        }
    }

    fn sight(&self) -> Sight<'_> {
        Sight {
            now: NOW,
            means: &self.means,
            power: self.power,
            unguarded: self.unguarded,
            quarantine: self.quarantine.as_ref(),
            media: &self.media,
            reading: self.reading,
            verdict: self.verdict.as_ref(),
            runs: self.power == Some(PowerState::Running),
        }
    }

    fn next(&self) -> Next {
        self.workflow.next(&self.sight())
    }

    /// Does what comes next, as the daemon would; what it waits for, once it waits.
    fn run(&mut self) -> Next {
        for _ in 0..100 {
            match self.next() {
                Next::Begin(step) => self.workflow.begin(step, NOW).unwrap(),
                Next::Do(step) => {
                    self.act(step);
                    self.workflow.finish(step, NOW, Ok(String::new())).unwrap();
                }
                Next::Pass(step, passed) => {
                    if let Passed::Approved(images, by) = passed {
                        self.workflow.approve_images(images, by);
                    }
                    self.workflow.finish(step, NOW, Ok(String::new())).unwrap();
                }
                Next::Redo(step, why) => self.workflow.redo(step, NOW, why),
                Next::End => self.workflow.end(NOW),
                waits @ (Next::Wait(_) | Next::Over) => return waits,
            }
        }
        panic!("never comes to rest: {:#?}", self.workflow);
    }

    fn act(&mut self, step: Step) {
        let ours = |mode| {
            let target = QuarantineTarget::Vm(VM);
            Some(Quarantine::new(target, NOW, Cause::Operator, 1000, "a test").in_mode(mode))
        };
        match step {
            Step::Quarantine | Step::Seal => self.quarantine = ours(QuarantineMode::Drop),
            Step::Sandbox => self.quarantine = ours(QuarantineMode::Sandbox),
            Step::Release => self.quarantine = None,
            Step::GiveBack => self.quarantine = self.workflow.before.clone(),
            _ => {}
        }
    }

    fn judged(&mut self, status: VmStatus) -> &mut Self {
        let outcome = if status == VmStatus::Approved { Met::Met } else { Met::Failed };
        let requirement = Requirement {
            id: "template-registered".to_owned(),
            outcome,
            sentence: "Its images are those of a template.".to_owned(),
            finding: "No template has its disk.".to_owned(),
            remedy: "Register it.".to_owned(),
        };
        self.power = Some(PowerState::Running);
        self.verdict = Some(VmDecision {
            status: VmStatus::Quarantined,
            verdict: status,
            template: Some("it".to_owned()),
            template_version: None,
            requirements: vec![requirement],
            rules: Vec::new(),
            responses: Default::default(),
            grace: None,
            guard: Default::default(),
            address_rules: Vec::new(),
            errors: BTreeMap::new(),
        });
        self
    }

    fn approve(&mut self, uid: u32, digests: &[Digest]) -> Result<(), Refusal> {
        let mut workflow = self.workflow.clone();
        let digests = digests.iter().copied().collect();
        let result = workflow.approve(by(uid), digests, &self.sight());
        self.workflow = workflow;
        result
    }
}

fn steps(workflow: &Workflow) -> Vec<Step> {
    workflow.steps.iter().map(|planned| planned.step).collect()
}

fn waits(next: Next) -> String {
    match next {
        Next::Wait(why) => why,
        other => panic!("{other:?} does not wait"),
    }
}

#[test]
fn what_is_planned_follows_from_the_outcome_and_from_what_there_is() {
    use Step::*;
    let replaced = || Outcome::Replaced { template: "debian".to_owned() };
    let template = || Outcome::Template { template: "web".to_owned() };
    let provisioned = || Outcome::Patched { provisioner: Some("offline".to_owned()) };
    let by_p = || Outcome::Patched { provisioner: Some("p".to_owned()) };
    type Expect = Result<&'static [Step], &'static str>;
    let cases: &[(Outcome, &[Deed], Ways, Expect)] = &[
        (patched(), &[], HELD, Ok(&[Quarantine, Sandbox, Approve, Verify, Release])),
        (
            provisioned(),
            &EVERY_DEED,
            HELD,
            Ok(&[Quarantine, Evidence, Sandbox, Move, Provision, Approve, Verify, Release]),
        ),
        (
            template(),
            &EVERY_DEED,
            HELD,
            Ok(&[Quarantine, Evidence, Sandbox, Approve, Verify, Release]),
        ),
        (
            replaced(),
            &EVERY_DEED,
            HELD,
            Ok(&[Quarantine, Evidence, Sandbox, Approve, Replace, Verify, Release]),
        ),
        (template(), &[Deed::Contain], NONE, Ok(&[Quarantine, Contain, Approve, Verify, Release])),
        (provisioned(), &[], HELD, Err("provisioning is not there")),
        (
            Outcome::Patched { provisioner: Some("ofline".to_owned()) },
            &EVERY_DEED,
            HELD,
            Err(
                "\"ofline\" is no provisioner of this host; remediation.provisioners lists offline, p",
            ),
        ),
        (replaced(), &[], HELD, Err("replacing a VM by one of a template is not there")),
        (patched(), &[], NONE, Err("containing a VM that its ports do not hold is not there")),
        (
            provisioned(),
            &EVERY_DEED,
            MIXED,
            Ok(&[
                Quarantine, Evidence, Contain, Sandbox, Move, Provision, Approve, Verify, Release,
            ]),
        ),
        (patched(), &[], MIXED, Err("containing a VM that its ports do not hold is not there")),
        (by_p(), &EVERY_DEED, MIXED, Err("the VM runs for \"p\", and has a way out")),
        (
            by_p(),
            &EVERY_DEED,
            NONE,
            Ok(&[Quarantine, Evidence, Contain, Move, Provision, Approve, Verify, Release]),
        ),
        (replaced(), &EVERY_DEED, NONE, Err("this one has no interface, or one that is on no")),
        (replaced(), &EVERY_DEED, MIXED, Err("this one has no interface, or one that is on no")),
    ];
    for (outcome, deeds, ways, expect) in cases {
        match (plan(outcome, &means(deeds, 1), *ways), expect) {
            (Ok(plan), Ok(expect)) => {
                let steps: Vec<_> = plan.steps.iter().map(|planned| planned.step).collect();
                assert_eq!(steps, *expect, "{outcome:?}");
                assert!(plan.steps.iter().all(|planned| !planned.step.effect().is_empty()));
            }
            (Err(refusal), Err(why)) => assert!(refusal.0.contains(why), "{refusal}"),
            (planned, _) => panic!("{outcome:?}: {planned:?}"),
        }
    }
    let Ok(plan) = plan(&patched(), &means(&[], 1), HELD) else { panic!() };
    let left_out: Vec<_> = plan.left_out.iter().map(|(deed, _)| *deed).collect();
    assert_eq!(left_out, [Deed::Evidence, Deed::Move]);
}

#[test]
fn a_patched_vm_comes_back_once_its_image_is_approved_and_passes() {
    let mut case = Case::new(patched(), &[], 1);
    assert_eq!(case.workflow.stage(), Stage::Discovered);
    assert!(waits(case.run()).contains("1 person has to approve"));
    assert_eq!(case.workflow.stage(), Stage::Provisioning);
    assert_eq!(case.quarantine.as_ref().unwrap().mode, QuarantineMode::Sandbox);
    case.media[0] = medium(MediumRole::Disk, PATCHED, false);
    case.approve(1000, &[PATCHED]).unwrap();
    assert!(waits(case.run()).contains("start it"));
    assert_eq!(case.workflow.stage(), Stage::Verifying);
    let birth = case.workflow.birth().unwrap();
    let images = [Image::new(MediumRole::Disk, PATCHED), Image::new(MediumRole::Kernel, KERNEL)];
    assert_eq!(birth.images, images);
    case.judged(VmStatus::Denied);
    let why = waits(case.run());
    assert!(why.contains("template-registered is not met: Its images are"), "{why}");
    assert!(case.quarantine.is_some(), "a failed verification releases nobody");
    case.judged(VmStatus::Pending);
    waits(case.run());
    case.judged(VmStatus::Approved).reading = true;
    assert!(waits(case.run()).contains("is being read"));
    case.reading = false;
    assert_eq!(case.run(), Next::Over);
    assert_eq!((case.workflow.stage(), case.quarantine), (Stage::Released, None));
    assert!(case.workflow.birth().is_some(), "it holds for the next start, too");
}

#[test]
fn an_approval_names_what_is_there_or_is_refused() {
    type Change = fn(&mut Case);
    let cases: &[(&str, Change, u32, &[Digest], &str)] = &[
        ("what is there", |_| (), 1000, &[ROGUE], ""),
        ("also what a template has", |_| (), 1000, &[ROGUE, KERNEL], ""),
        ("nothing", |_| (), 1000, &[], "which no template has"),
        ("something else", |_| (), 1000, &[ROGUE, PATCHED], "does not boot from sha256 0808"),
        (
            "while it runs",
            |case| case.power = Some(PowerState::Running),
            1000,
            &[ROGUE],
            "shut it down",
        ),
        (
            "an overlay may run on",
            |case| {
                case.power = Some(PowerState::Running);
                case.media[0].own = false;
            },
            1000,
            &[ROGUE],
            "",
        ),
        ("while it is read", |case| case.reading = true, 1000, &[ROGUE], "being read"),
        ("of a VM that is gone", |case| case.power = None, 1000, &[ROGUE], "no inventory"),
        (
            "of what cannot be read",
            |case| case.media[0].shown = Shown::Unreadable("no such file".to_owned()),
            1000,
            &[ROGUE],
            "no such file",
        ),
        (
            "with two needed, who started it",
            |case| case.means.approvals = 2,
            1000,
            &[ROGUE],
            "others",
        ),
        ("with two needed, another one", |case| case.means.approvals = 2, 1001, &[ROGUE], ""),
    ];
    for (name, change, uid, digests, expect) in cases {
        let mut case = Case::new(patched(), &[], 1);
        case.run();
        change(&mut case);
        match case.approve(*uid, digests) {
            Ok(()) => assert_eq!(*expect, "", "{name}"),
            Err(Refusal(why)) => {
                assert!(!expect.is_empty() && why.contains(expect), "{name}: {why}");
            }
        }
    }
}

/// Its images are archived, so that it does not matter whether anybody can read them.
#[test]
fn a_replacement_is_approved_without_digests() {
    let mut case = Case::new(Outcome::Replaced { template: "web".to_owned() }, &EVERY_DEED, 2);
    case.media[0].shown = Shown::Unreadable("no such file".to_owned());
    assert!(waits(case.run()).contains("2 people have to approve"));
    assert!(case.approve(1001, &[ROGUE]).unwrap_err().0.contains("name no digest"));
    case.approve(1001, &[]).unwrap();
    assert!(case.workflow.history.back().unwrap().what.contains("its replacement by web"));
    assert!(case.approve(1001, &[]).unwrap_err().0.contains("already"));
    assert!(case.approve(1000, &[]).unwrap_err().0.contains("others"));
    assert!(waits(case.run()).contains("1 person has to"));
    case.approve(1002, &[]).unwrap();
    assert!(waits(case.run()).contains("start it"));
    assert!(case.workflow.has_done(Step::Replace) && case.workflow.birth().is_none());
}

#[test]
fn two_others_approve_the_same_where_two_have_to() {
    let mut case = Case::new(patched(), &[], 2);
    assert!(waits(case.run()).contains("2 people have to approve other than"));
    case.approve(1001, &[ROGUE]).unwrap();
    assert!(waits(case.run()).contains("1 person has to"));
    assert!(case.approve(1001, &[ROGUE]).unwrap_err().0.contains("already"));
    // Of another image the first approval says nothing.
    case.media[0] = medium(MediumRole::Disk, PATCHED, false);
    assert!(waits(case.run()).contains("does not boot from it any more"));
    case.approve(1002, &[PATCHED]).unwrap();
    assert!(waits(case.run()).contains("1 person has to"));
    case.approve(1001, &[PATCHED]).unwrap();
    assert!(waits(case.run()).contains("start it"));
    // Less is not asked of a workflow that has begun with more.
    let mut case = Case::new(patched(), &[], 2);
    case.means.approvals = 1;
    case.run();
    assert!(case.approve(1000, &[ROGUE]).is_err());
}

#[test]
fn what_was_approved_may_be_approved_anew_while_it_is_verified() {
    let mut case = Case::new(patched(), &[], 1);
    case.run();
    case.approve(1000, &[ROGUE]).unwrap();
    case.run();
    case.media[0] = medium(MediumRole::Disk, PATCHED, false);
    case.approve(1000, &[PATCHED]).unwrap();
    assert_eq!(case.workflow.stage(), Stage::Provisioning);
    case.run();
    assert_eq!(case.workflow.approved[0], Image::new(MediumRole::Disk, PATCHED));
    // Of a template that is registered nobody does so.
    let mut case = Case::new(Outcome::Template { template: "web".to_owned() }, &[], 1);
    case.run();
    case.approve(1000, &[ROGUE]).unwrap();
    case.run();
    assert!(case.workflow.birth().is_none(), "a template's VMs need none of their own");
    assert!(case.approve(1000, &[ROGUE]).unwrap_err().0.contains("verify comes first"));
}

/// A certificate of birth names those who have approved what it is about, whoever says what later.
#[test]
fn a_birth_names_who_has_approved_it() {
    let said = |case: &Case| case.workflow.birth().unwrap().reason.unwrap();
    let mut case = Case::new(patched(), &[], 2);
    case.run();
    for uid in [1001, 1002] {
        case.approve(uid, &[ROGUE]).unwrap();
    }
    waits(case.run());
    let both = "approved for this VM alone by uid 1001, 1002";
    assert_eq!(said(&case), both);
    // Somebody approves another image, which is not enough yet.
    case.media[0] = medium(MediumRole::Disk, PATCHED, false);
    case.approve(1003, &[PATCHED]).unwrap();
    waits(case.run());
    assert_eq!(said(&case), both);
    case.approve(1001, &[PATCHED]).unwrap();
    waits(case.run());
    let others = "approved for this VM alone by uid 1001, 1003";
    assert_eq!(said(&case), others);
    case.judged(VmStatus::Approved);
    assert_eq!(case.run(), Next::Over);
    // The next workflow begins without approvals.
    let plan = plan(&patched(), &case.means, HELD).unwrap();
    let former = Some(&case.workflow);
    case.workflow = Workflow::start((VM, "web"), patched(), plan, by(1), 1, None, former).unwrap();
    assert_eq!(said(&case), others);
    case.workflow.reject(&by(1)).unwrap();
    assert!(case.workflow.birth().is_none() && case.workflow.approvers.is_empty());
}

/// Whoever was killed at any step does it again, and nothing else.
#[test]
fn each_step_is_taken_up_again_where_it_was() {
    for outcome in [
        Outcome::Patched { provisioner: Some("p".to_owned()) },
        Outcome::Template { template: "web".to_owned() },
        Outcome::Replaced { template: "debian".to_owned() },
    ] {
        let mut case = Case::new(outcome, &EVERY_DEED, 1);
        case.judged(VmStatus::Approved);
        case.media.iter_mut().for_each(|medium| medium.own = false);
        let all = steps(&case.workflow);
        for step in &all {
            assert_eq!(case.next(), Next::Begin(*step));
            case.workflow.begin(*step, NOW).unwrap();
            if *step == Step::Approve {
                let named: &[_] = if case.workflow.replacing().is_some() { &[] } else { &[ROGUE] };
                case.approve(1000, named).unwrap();
            }
            // What is read back from the disk is what was written.
            let text = serde_json::to_string(&case.workflow).unwrap();
            let again: Workflow = serde_json::from_str(&text).unwrap();
            assert_eq!(again, case.workflow);
            let next = again.next(&case.sight());
            let same = match &next {
                Next::Do(next) | Next::Pass(next, _) => next == step,
                _ => false,
            };
            assert!(same, "{step:?}: {next:?}");
            if step.deed().is_some() {
                // After a restart nobody has listed it yet.
                let listed = case.power.take();
                assert!(waits(again.next(&case.sight())).contains("no inventory"), "{step:?}");
                case.power = listed;
            }
            case.act(*step);
            // Killed before it was written down that it is done: once more, without harm.
            case.act(*step);
            case.workflow.finish(*step, NOW, Ok("done".to_owned())).unwrap();
            assert!(case.workflow.finish(*step, NOW, Ok(String::new())).is_err(), "{step:?}");
        }
        assert_eq!(case.next(), Next::End);
    }
}

#[test]
fn what_fails_waits_for_a_person() {
    let mut case = Case::new(patched(), &[Deed::Move], 1);
    for step in [Step::Quarantine, Step::Sandbox] {
        case.workflow.begin(step, NOW).unwrap();
        case.act(step);
        case.workflow.finish(step, NOW, Ok(String::new())).unwrap();
    }
    assert!(case.workflow.retry(&by(1000)).is_err(), "nothing has failed");
    case.workflow.begin(Step::Move, NOW).unwrap();
    case.workflow.progress(Step::Move, Some(200), "x".repeat(9_999));
    let moving = case.workflow.current().unwrap();
    assert_eq!((moving.percent, moving.note.chars().count()), (Some(100), LONGEST_TEXT + 1));
    case.workflow.finish(Step::Move, NOW, Err("the pool is full".to_owned())).unwrap();
    assert!(waits(case.next()).contains("the pool is full"));
    case.workflow.retry(&by(1000)).unwrap();
    assert_eq!(case.next(), Next::Begin(Step::Move));
}

#[test]
fn a_quarantine_that_somebody_lifts_is_imposed_again() {
    let mut case = Case::new(patched(), &[], 1);
    case.run();
    for held in
        [None, case.quarantine.clone().map(|held| Quarantine { cause: Cause::Verdict, ..held })]
    {
        case.quarantine = held;
        assert!(matches!(case.next(), Next::Redo(Step::Quarantine, _)));
        waits(case.run());
        assert_eq!(case.quarantine.as_ref().map(|held| held.cause), Some(Cause::Operator));
    }
    // Not while it is being released.
    case.approve(1000, &[ROGUE]).unwrap();
    waits(case.run());
    case.judged(VmStatus::Approved);
    while case.next() != Next::Do(Step::Release) {
        match case.next() {
            Next::Begin(step) => case.workflow.begin(step, NOW).unwrap(),
            Next::Pass(step, _) => case.workflow.finish(step, NOW, Ok(String::new())).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    case.quarantine = None;
    assert_eq!(case.next(), Next::Do(Step::Release));
}

/// Between the pass and the release the verdict may change.
#[test]
fn a_quarantine_is_lifted_by_a_verdict_of_now() {
    for has_begun in [false, true] {
        let mut case = Case::new(patched(), &[], 1);
        case.run();
        case.approve(1000, &[ROGUE]).unwrap();
        case.run();
        case.judged(VmStatus::Approved);
        let Next::Pass(Step::Verify, _) = case.next() else { panic!("{:?}", case.next()) };
        case.workflow.finish(Step::Verify, NOW, Ok(String::new())).unwrap();
        if has_begun {
            case.workflow.begin(Step::Release, NOW).unwrap();
        }
        case.judged(VmStatus::Denied);
        assert!(waits(case.run()).contains("template-registered"));
        assert!(case.quarantine.is_some());
        case.judged(VmStatus::Approved);
        assert_eq!(case.run(), Next::Over);
    }
}

/// Every step of every way, with everything that is asked at the wrong time.
#[test]
fn what_is_asked_at_the_wrong_time_is_refused_with_a_sentence() {
    let before = Quarantine::new(QuarantineTarget::Vm(VM), NOW, Cause::Verdict, 0, "rogue");
    let mut case = Case::new(patched(), &EVERY_DEED, 1);
    case.workflow.before = Some(before.clone());
    loop {
        let current = case.workflow.current().map(|planned| planned.step);
        let mut wrong: Vec<(String, Result<(), Refusal>)> = Vec::new();
        for step in Step::ALL {
            let mut workflow = case.workflow.clone();
            if current != Some(step) {
                wrong.push((format!("begin {step:?}"), workflow.begin(step, NOW)));
                wrong.push((
                    format!("finish {step:?}"),
                    workflow.finish(step, NOW, Ok(String::new())),
                ));
            }
        }
        let mut workflow = case.workflow.clone();
        wrong.push(("retry".to_owned(), workflow.retry(&by(1))));
        if !matches!(current, Some(Step::Approve | Step::Verify)) {
            let asked = workflow.approve(by(1), BTreeSet::from([ROGUE]), &case.sight());
            wrong.push(("approve".to_owned(), asked));
        }
        let again = Workflow::start(
            (VM, "web"),
            patched(),
            plan(&patched(), &case.means, HELD).unwrap(),
            by(1),
            1,
            None,
            Some(&case.workflow),
        );
        match case.workflow.is_over() {
            true => {
                assert_eq!(again.unwrap().approved, case.workflow.approved);
                wrong.push(("abort".to_owned(), workflow.abort(&by(1))));
            }
            false => wrong.push(("start".to_owned(), again.map(drop))),
        }
        for (what, result) in wrong {
            let Err(Refusal(why)) = result else { panic!("{what} at {current:?} is not refused") };
            assert!(why.len() > 20, "{what}: {why:?}");
        }
        // From anywhere it can be aborted and rejected, once.
        if !case.workflow.is_over() {
            let mut aborted = Case { workflow: case.workflow.clone(), ..copy(&case) };
            aborted.workflow.abort(&by(1)).unwrap();
            assert!(aborted.workflow.abort(&by(1)).is_err());
            assert_eq!(aborted.run(), Next::Over, "{current:?}");
            assert_eq!(aborted.workflow.stage(), Stage::Aborted);
            assert_eq!(aborted.quarantine.as_ref(), Some(&before));
        }
        let mut rejected = Case { workflow: case.workflow.clone(), ..copy(&case) };
        rejected.workflow.reject(&by(1)).unwrap();
        assert!(rejected.workflow.reject(&by(1)).is_err());
        assert!(rejected.workflow.abort(&by(1)).is_err());
        assert_eq!(rejected.run(), Next::Over, "{current:?}");
        assert_eq!(rejected.workflow.stage(), Stage::Rejected);
        assert!(rejected.quarantine.is_some() && rejected.workflow.birth().is_none());

        match case.next() {
            Next::Begin(step) => case.workflow.begin(step, NOW).unwrap(),
            Next::Do(step) => {
                case.act(step);
                case.workflow.finish(step, NOW, Ok(String::new())).unwrap();
            }
            Next::Pass(step, _) => case.workflow.finish(step, NOW, Ok(String::new())).unwrap(),
            Next::Wait(_) if current == Some(Step::Approve) => case.approve(1, &[ROGUE]).unwrap(),
            Next::Wait(_) => drop(case.judged(VmStatus::Approved)),
            Next::End => case.workflow.end(NOW),
            Next::Over => break,
            Next::Redo(step, why) => panic!("{step:?}: {why}"),
        }
    }
    assert_eq!(case.workflow.stage(), Stage::Released);
}

fn copy(case: &Case) -> Case {
    Case {
        workflow: case.workflow.clone(),
        means: case.means.clone(),
        power: case.power,
        unguarded: case.unguarded,
        quarantine: case.quarantine.clone(),
        media: case.media.clone(),
        reading: case.reading,
        verdict: case.verdict.clone(),
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut case = Case::new(patched(), &[], 1);
    let name = "\u{1b}]0;x\u{7}".repeat(10_000);
    let plan = plan(&patched(), &case.means, HELD).unwrap();
    let why = "é".repeat(10_000);
    let started = By { why, ..by(1) };
    case.workflow = Workflow::start((VM, &name), patched(), plan, started, 1, None, None).unwrap();
    for _ in 0..3 * MOST_EVENTS {
        case.workflow.note(NOW, None, "z".repeat(10_000));
    }
    assert_eq!(case.workflow.history.len(), MOST_EVENTS);
    let size = serde_json::to_string(&case.workflow).unwrap().len();
    assert!(size < 100_000, "{size}");
}
