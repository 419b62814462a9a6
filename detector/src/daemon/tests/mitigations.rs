//! How much verdicts take away: counted on the disk before it is done, and what people say of the rest.

use std::collections::BTreeSet;

use detector_core::{
    decide::{
        Guard,
        policy::{DEFAULT, Rulebook, Rules},
    },
    model::{BlastLimits, Mitigations, Rejected},
};

use super::*;
use crate::{
    api::ErrorCode,
    audit::Kind,
    inventory::{NotDone, Power},
    mitigations::MitigationFile,
};

const LIMITS: BlastLimits = BlastLimits { vms: 1, percent: 100, window: Duration::from_secs(600) };
const NOBODY: &str = "@id(\"nobody\") @sentence(\"Nobody.\") \
                      forbid (principal, action == Action::\"join\", resource);\n";
const SHUT_DOWN: &str =
    "@id(\"off\") permit (principal, action == Action::\"shut-down\", resource);\n";
const REMEDIATE: &str =
    "@id(\"mend\") permit (principal, action == Action::\"remediate\", resource);\n";

fn rules(text: &str) -> Input {
    let rules = Rules::parse(&format!("{text}{DEFAULT}")).unwrap();
    Input::Rules(Rulebook { rules: rules.into(), ..Rulebook::default() })
}

/// Three VMs in force on ports 10 to 12.
fn three() -> Host {
    let mut host = Host::new(Mode::Enforce);
    host.brain.world.policy.blast = Some(LIMITS);
    let names = [("web", 1, "vnet0"), ("db", 2, "vnet1"), ("mail", 3, "vnet2")];
    let vms = names.map(|(name, number, port)| vm(name, number, port)).to_vec();
    host.turn(vec![tap(10, "vnet0"), tap(11, "vnet1"), tap(12, "vnet2"), listing(vms)]);
    host.read(|_| APPROVED);
    assert_eq!(isolated(&mut host), 0);
    host
}

fn isolated(host: &mut Host) -> usize {
    (10..=12).filter(|port| host.port(*port) == Port::Isolated).count()
}

/// What is to be written down.
fn writes(host: &mut Host) -> Option<Mitigations> {
    let place =
        host.effects.iter().position(|effect| matches!(effect, Effect::KeepMitigations(_)))?;
    match host.effects.remove(place) {
        Effect::KeepMitigations(mitigations) => Some(*mitigations),
        _ => None,
    }
}

fn kept(host: &mut Host) -> Mitigations {
    let written = writes(host).expect("something is to be written down");
    host.turn(vec![Input::MitigationsKept(Ok(()))]);
    written
}

fn say(host: &mut Host, request: Request) -> u64 {
    host.calls += 1;
    let id = host.calls;
    host.turn(vec![Input::Request { id, uid: 1000, request }]);
    id
}

fn approve(vms: &[&str], all: bool) -> Request {
    let vms = vms.iter().map(|vm| (*vm).to_owned()).collect();
    Request::MitigationApprove { vms, all, reason: "a test".to_owned() }
}

#[test]
fn nothing_is_taken_before_it_is_counted_and_people_are_answered_when_it_is_done() {
    let mut host = three();
    host.turn(vec![rules(NOBODY)]);
    assert_eq!(isolated(&mut host), 0, "it is not on the disk yet");
    assert_eq!(kept(&mut host).taken.len(), 1);
    assert_eq!((isolated(&mut host), writes(&mut host)), (1, None));
    assert!(host.told().contains(&"+blast-radius".to_owned()));

    // A word counts, and is answered, once it is written down.
    let id = say(&mut host, approve(&["mail"], false));
    assert!(host.answer(id).is_none());
    let written = kept(&mut host);
    assert!(written.held[&uuid(3)].is_approved());
    let Some(Ok(Reply::Mitigations(view))) = host.answer(id) else { panic!("no answer") };
    assert_eq!((view.held.len(), view.taken.len()), (1, 1), "{view:?}");
    assert_eq!(isolated(&mut host), 2);
    assert_eq!(kept(&mut host).held.len(), 1, "what is done is not remembered");

    for (request, expected) in [
        (approve(&["mail"], false), "is not held"),
        (approve(&["nobody"], false), "no VM"),
        (approve(&[], false), "no VM waits"),
    ] {
        let id = say(&mut host, request);
        let Some(Err(error)) = host.answer(id) else { panic!("no error") };
        assert!(error.message.contains(expected), "{error:?}");
    }
    // Another daemon over the same kernel knows what has been written down.
    let id = say(
        &mut host,
        Request::MitigationReject { vms: Vec::new(), all: true, reason: "a mistake".to_owned() },
    );
    let known = kept(&mut host);
    assert!(host.answer(id).is_some_and(|reply| reply.is_ok()));
    let state = std::mem::take(&mut host.kernel().state);
    let mut next = Host::new(Mode::Enforce);
    next.brain.world.policy.blast = Some(LIMITS);
    next.now = host.now;
    next.kernel().state = state;
    let names = [("web", 1, "vnet0"), ("db", 2, "vnet1"), ("mail", 3, "vnet2")];
    let vms = names.map(|(name, number, port)| vm(name, number, port)).to_vec();
    next.turn(vec![Input::Mitigations(known), rules(NOBODY)]);
    next.turn(vec![tap(10, "vnet0"), tap(11, "vnet1"), tap(12, "vnet2"), listing(vms)]);
    next.read(|_| APPROVED);
    assert_eq!((isolated(&mut next), writes(&mut next)), (2, None));
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    let mut host = three();
    host.told();
    host.turn(vec![rules(NOBODY)]);
    let refused = || {
        let why = "no space left".to_owned();
        Input::MitigationsKept(Err(Rejected { place: "mitigations.json".to_owned(), why }))
    };
    assert!(writes(&mut host).is_some());
    host.turn(vec![refused()]);
    assert_eq!((isolated(&mut host), writes(&mut host)), (0, None));
    assert!(host.told().contains(&"+blast-radius".to_owned()));
    let id = say(&mut host, approve(&[], true));
    assert!(writes(&mut host).is_some());
    host.turn(vec![refused()]);
    let Some(Err(error)) = host.answer(id) else { panic!("no answer") };
    assert!(error.message.contains("no space left"), "{error:?}");
    assert_eq!(isolated(&mut host), 0);
    // It is tried again by itself.
    host.wait(Duration::from_secs(31));
    kept(&mut host);
    assert_eq!(isolated(&mut host), 0, "who was held waits for a person");
    say(&mut host, approve(&[], true));
    kept(&mut host);
    assert_eq!(isolated(&mut host), 3);
}

/// A disk that hangs says nothing at all: nobody waits for it, and people are told.
#[test]
fn a_disk_that_does_not_answer_holds_up_nobody() {
    let mut host = three();
    host.told();
    host.turn(vec![rules(NOBODY)]);
    let written = writes(&mut host).expect("something is to be written down");
    assert_eq!(written.taken.len(), 1);
    let waits = say(&mut host, approve(&["mail"], false));
    assert!(host.answer(waits).is_none());
    let due = host.brain.wake_at().expect("it looks for itself").0 - host.now;
    assert!(due <= 10_000, "{due}");
    assert_eq!(host.brain.decision.vms[&uuid(1)].guard, Guard::Counting);
    host.wait(Duration::from_secs(11));
    assert!(matches!(host.brain.decision.vms[&uuid(1)].guard, Guard::Held(_)));
    assert!(host.told().contains(&"+blast-radius".to_owned()));
    let refused = |host: &mut Host, id| {
        let Some(Err(error)) = host.answer(id) else { panic!("no answer") };
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("its disk does not answer"), "{error:?}");
    };
    refused(&mut host, waits);
    let later = say(&mut host, approve(&[], true));
    refused(&mut host, later);
    assert!(host.brain.wake_at().is_none_or(|at| at.0 > host.now), "it does not spin");
    host.wait(Duration::from_secs(40));
    assert_eq!(writes(&mut host), None, "there is one write at a time");
    assert_eq!(isolated(&mut host), 0);

    // What was to be taken then is taken when the disk answers after all; the others wait for a person.
    host.turn(vec![Input::MitigationsKept(Ok(()))]);
    assert_eq!(isolated(&mut host), 1);
    let id = say(&mut host, approve(&[], true));
    kept(&mut host);
    assert!(host.answer(id).is_some_and(|reply| reply.is_ok()));
    assert_eq!(isolated(&mut host), 3);
}

/// It counts once it is written down, also where nobody waits for it any more.
#[test]
fn a_word_that_was_on_its_way_to_a_disk_that_hangs_is_none_before_it_is_there() {
    let mut host = three();
    host.turn(vec![rules(NOBODY)]);
    kept(&mut host);
    let id = say(&mut host, approve(&["mail"], false));
    assert!(writes(&mut host).is_some());
    host.wait(Duration::from_secs(11));
    assert!(host.answer(id).is_some_and(|reply| reply.is_err()));
    assert_eq!(isolated(&mut host), 1);
    host.turn(vec![Input::MitigationsKept(Ok(()))]);
    assert_eq!(isolated(&mut host), 2);
}

/// What libvirt is asked.
fn stops(host: &mut Host) -> Vec<(u8, Power)> {
    let mut stops = Vec::new();
    host.effects.retain(|effect| match effect {
        Effect::Stop { vm, power, .. } => {
            stops.push((vm.as_bytes()[0], *power));
            false
        }
        _ => true,
    });
    stops
}

#[test]
fn a_vm_is_shut_down_and_its_power_is_taken_where_its_guest_does_not() {
    let mut host = three();
    host.turn(vec![rules(&format!("{SHUT_DOWN}{NOBODY}"))]);
    assert_eq!(stops(&mut host), []);
    let taken: BTreeSet<_> = kept(&mut host).taken.into_keys().collect();
    assert_eq!(taken, [uuid(1)].into());
    assert_eq!(stops(&mut host), [(1, Power::ShutDown)], "who is held is not stopped either");
    // A guest that cannot even be asked does not shut down.
    host.turn(vec![Input::Paused(uuid(1), Err(NotDone::Refused("no such operation".to_owned())))]);
    host.wait(Duration::from_secs(59));
    assert_eq!(stops(&mut host), []);
    host.wait(Duration::from_secs(2));
    assert_eq!(stops(&mut host), [(1, Power::Off)]);
    host.turn(vec![Input::Paused(uuid(1), Ok(()))]);
    host.wait(Duration::from_secs(600));
    assert_eq!(stops(&mut host), []);
}

/// What is on record of VMs that are stopped, with the reason.
fn stops_recorded(host: &mut Host) -> Vec<(String, String)> {
    let recorded = host.recorded().into_iter().filter(|entry| entry.kind == Kind::Pause);
    recorded.map(|entry| (entry.to.unwrap_or_default(), entry.why)).collect()
}

/// While libvirt is started anew, or too many wait for it, nobody has asked the guest.
#[test]
fn nobody_loses_power_whose_guest_was_never_asked() {
    let unasked = || Input::Paused(uuid(1), Err(NotDone::Unasked("no connection".to_owned())));
    let mut host = three();
    host.turn(vec![rules(&format!("{SHUT_DOWN}{NOBODY}"))]);
    kept(&mut host);
    assert_eq!(stops(&mut host), [(1, Power::ShutDown)]);
    host.told();
    host.recorded();
    host.turn(vec![unasked()]);
    assert!(host.told().contains(&"+pause-failed".to_owned()));
    let again = host.brain.wake_at().expect("it is asked again").0 - host.now;
    assert!(again <= 5_000, "{again}");
    // Longer than a guest has, again and again.
    for _ in 0..13 {
        assert_eq!(stops(&mut host), []);
        host.wait(Duration::from_secs(5));
        assert_eq!(stops(&mut host), [(1, Power::ShutDown)]);
        host.turn(vec![unasked()]);
    }
    assert_eq!(host.told(), [""; 0], "it is one finding all the time");
    let recorded = stops_recorded(&mut host);
    assert_eq!(recorded, [("unasked".to_owned(), "no connection".to_owned())], "once");
    host.wait(Duration::from_secs(5));
    assert_eq!(stops(&mut host), [(1, Power::ShutDown)]);
    host.turn(vec![Input::Paused(uuid(1), Ok(()))]);
    assert_eq!(host.told(), ["-pause-failed"]);
    host.wait(Duration::from_secs(59));
    assert_eq!(stops(&mut host), [], "its guest has all of its time");
    host.wait(Duration::from_secs(2));
    assert_eq!(stops(&mut host), [(1, Power::Off)]);
    let recorded = stops_recorded(&mut host);
    let states: Vec<_> = recorded.iter().map(|(to, _)| to.as_str()).collect();
    assert_eq!(states, ["shutting-down", "asked"]);
    assert!(recorded[1].1.contains("its guest was asked at "), "{recorded:?}");
    // Nor is it off because nobody could ask for that.
    host.turn(vec![unasked()]);
    host.wait(Duration::from_secs(5));
    assert_eq!(stops(&mut host), [(1, Power::Off)]);
    host.turn(vec![Input::Paused(uuid(1), Ok(()))]);
    host.wait(Duration::from_secs(600));
    assert_eq!(stops(&mut host), []);
}

#[test]
fn nobody_is_asked_again_for_what_nobody_wants_any_more() {
    let mut host = three();
    host.turn(vec![rules(&format!("{SHUT_DOWN}{NOBODY}"))]);
    kept(&mut host);
    assert_eq!(stops(&mut host), [(1, Power::ShutDown)]);
    host.turn(vec![Input::Paused(uuid(1), Err(NotDone::Unasked("no connection".to_owned())))]);
    host.turn(vec![rules(NOBODY)]);
    host.wait(Duration::from_secs(61));
    assert_eq!(stops(&mut host), []);
}

#[test]
fn nobody_loses_power_that_the_policy_leaves_it_again() {
    let mut host = three();
    host.turn(vec![rules(&format!("{SHUT_DOWN}{NOBODY}"))]);
    kept(&mut host);
    assert_eq!(stops(&mut host), [(1, Power::ShutDown)]);
    host.turn(vec![Input::Paused(uuid(1), Ok(()))]);
    host.turn(vec![rules(SHUT_DOWN)]);
    host.wait(Duration::from_secs(61));
    assert_eq!(stops(&mut host), []);
}

#[test]
fn a_guest_that_is_left_its_time_goes_on_with_a_finding() {
    let mut host = three();
    host.brain.world.policy.shut_down.force = false;
    host.turn(vec![rules(&format!("{SHUT_DOWN}{NOBODY}"))]);
    kept(&mut host);
    assert_eq!(stops(&mut host), [(1, Power::ShutDown)]);
    host.turn(vec![Input::Paused(uuid(1), Ok(()))]);
    host.told();
    host.wait(Duration::from_secs(61));
    assert_eq!(stops(&mut host), []);
    assert!(host.told().contains(&"+pause-failed".to_owned()));
}

/// Writes workflows down until there is nothing more to write.
fn write_workflows(host: &mut Host) {
    for _ in 0..16 {
        let kept: Vec<_> = host
            .effects
            .extract_if(.., |effect| matches!(effect, Effect::KeepWorkflow { .. }))
            .filter_map(|effect| match effect {
                Effect::KeepWorkflow { workflow, .. } => Some(Input::WorkflowKept {
                    vm: workflow.vm,
                    revision: workflow.revision,
                    result: Ok(()),
                }),
                _ => None,
            })
            .collect();
        if kept.is_empty() {
            return;
        }
        host.turn(kept);
    }
    panic!("never comes to rest");
}

/// Once for each quarantine, and whoever ends it has the last word.
#[test]
fn the_policy_starts_a_remediation() {
    let mut host = three();
    host.turn(vec![rules(&format!("{REMEDIATE}{NOBODY}"))]);
    kept(&mut host);
    host.turn(vec![Input::Tick]);
    write_workflows(&mut host);
    assert_eq!(host.brain.remediation.workflows().count(), 1, "of the one that is cut off only");
    let workflow = host.brain.remediation.workflow(uuid(1)).unwrap().clone();
    assert_eq!((workflow.begun.uid, workflow.ended), (0, None));
    let abort = Request::RemediateAbort { vm: "web".to_owned(), reason: "no".to_owned() };
    let id = say(&mut host, abort);
    write_workflows(&mut host);
    assert!(host.answer(id).is_some_and(|reply| reply.is_ok()));
    host.wait(Duration::from_secs(5));
    assert!(host.brain.remediation.workflow(uuid(1)).unwrap().begun.at == workflow.begun.at);
}

#[test]
fn a_provisioner_that_is_not_there_is_told() {
    let mut host = three();
    let named = REMEDIATE.replace("@id(\"mend\")", "@id(\"mend\") @provisioner(\"nowhere\")");
    host.told();
    host.turn(vec![rules(&format!("{named}{NOBODY}"))]);
    kept(&mut host);
    host.turn(vec![Input::Tick]);
    assert!(host.told().contains(&"+remediation-stuck".to_owned()));
    assert!(host.brain.remediation.workflow(uuid(1)).is_none());
}

/// As it is on the disk, over a real file.
#[test]
fn what_is_written_down_is_what_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = three();
    host.turn(vec![rules(NOBODY)]);
    let written = kept(&mut host);
    let file = MitigationFile::new(directory.path());
    file.set(written.clone());
    file.write().unwrap();
    let read = file.read();
    assert_eq!(
        (read.taken.keys().collect::<Vec<_>>(), read.held.keys().collect::<Vec<_>>()),
        (written.taken.keys().collect(), written.held.keys().collect())
    );
}
