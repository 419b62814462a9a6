//! The policy: what takes its place, what another one would change, what is told.

use std::sync::Arc;

use detector_core::decide::{
    VmStatus,
    policy::{DEFAULT, Refused, Rulebook, Rules},
};

use super::{
    super::input::{Admit, Input},
    *,
};
use crate::api::view::{AdmissionOutcome, PolicyDiffView};

/// No VM of this name, whatever it boots.
const NOT_WEB: &str = r#"@id("no-web") @sentence("A VM is not called web.") @remedy("Rename it.")
    forbid (principal, action == Action::"join", resource)
    unless { principal has name && principal.name != "web" };"#;

/// What is denied keeps what it has.
const SPARED: &str = r#"@id("spared") @sentence("Nothing is isolated.")
    forbid (principal, action == Action::"isolate", resource);"#;

fn rules(text: &str) -> Arc<Rules> {
    Arc::new(Rules::parse(&format!("{text}\n{DEFAULT}")).unwrap())
}

fn book(text: &str) -> Input {
    let origin = Some("/etc/detector/policy.cedar".to_owned());
    Input::Rules(Rulebook { rules: rules(text), origin, refused: None })
}

fn diff(host: &mut Host, text: &str) -> PolicyDiffView {
    host.turn(vec![Input::PolicyDiff { id: 800, rules: rules(text) }]);
    match host.answer(800) {
        Some(Ok(Reply::PolicyDiff(diff))) => diff,
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_policy_is_tried_before_it_is_in_force() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.told();
    assert_eq!(diff(&mut host, "").changes, []);
    let dry = diff(&mut host, NOT_WEB);
    assert_eq!((dry.vms, dry.changes.len()), (1, 1));
    let change = &dry.changes[0];
    assert_eq!(
        (change.vm.name.as_str(), change.from, change.to),
        ("web", VmStatus::Approved, VmStatus::Denied)
    );
    assert_eq!(
        (change.rules.as_slice(), change.why.as_slice()),
        (&["no-web".to_owned()][..], &["no-web: Not met: A VM is not called web.".to_owned()][..],)
    );
    assert!(change.effect.starts_with("is quarantined"), "{}", change.effect);
    // Nothing has been done.
    assert_eq!(host.port(10), Port::Granted);
    assert_eq!(host.told(), [""; 0]);
    assert!(diff(&mut host, &format!("{NOT_WEB}{SPARED}")).changes[0].effect.starts_with("keeps"));

    host.turn(vec![book(NOT_WEB)]);
    assert_eq!(host.port(10), Port::Isolated);
    assert_eq!(host.told(), ["+rogue-vm"]);
    match host.ask(Request::VmShow { name: "web".to_owned() }) {
        Ok(Reply::Vm(vm)) => assert_eq!(vm.rules, ["no-web"]),
        other => panic!("{other:?}"),
    }
    // Back again, it stays quarantined until somebody releases it.
    assert_eq!(diff(&mut host, "").changes[0].effect, "stays quarantined until it is released");
}

#[test]
fn what_is_not_isolated_keeps_what_it_has_and_gets_nothing_new() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.turn(vec![book(&format!("{NOT_WEB}{SPARED}"))]);
    assert_eq!(host.port(10), Port::Granted);
    assert_eq!(host.told(), ["+rogue-vm"]);
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![book(&format!("{NOT_WEB}{SPARED}"))]);
    host.approved();
    assert_eq!(host.port(10), Port::Mute);
}

#[test]
fn a_policy_that_is_refused_is_told_and_changes_nothing() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.told();
    let why = vec!["/etc/detector/policy.cedar:3:5: unexpected token".to_owned()];
    let refused =
        Refused { path: "/etc/detector/policy.cedar".to_owned(), why, since: Timestamp(host.now) };
    host.turn(vec![Input::Rules(Rulebook { refused: Some(refused), ..Rulebook::default() })]);
    assert_eq!(host.port(10), Port::Granted);
    let findings = host.brain.findings.open();
    let told = findings.iter().find(|one| one.key.kind.as_str() == "policy-invalid").unwrap();
    assert!(told.title.contains("policy.cedar:3:5: unexpected token"), "{}", told.title);
    assert!(told.title.contains("the built-in policy is in force"), "{}", told.title);
    host.told();
    host.turn(vec![book("")]);
    assert_eq!(host.told(), ["-policy-invalid"]);
}

/// The person who starts a VM reads which rule refuses it, in the rule's own sentence.
#[test]
fn a_refused_start_shows_the_sentence_of_the_rule() {
    let cases = [
        ("", FOUND, "[template-registered] A VM descends from a registered template. The disk"),
        (NOT_WEB, APPROVED, "[no-web] Not met: A VM is not called web."),
    ];
    for (text, digest, expected) in cases {
        let mut host = Host::with(Mode::Enforce, |rules| rules.denied = OnRefusal::Refuse);
        host.turn(vec![book(text)]);
        let vm = vm("web", 1, "vnet0");
        host.turn(vec![Input::Admit(Box::new(Admit {
            id: 700,
            source: LIBVIRT.to_owned(),
            name: vm.name.clone(),
            vm: Ok(vm),
            links: vec![link(10, "vnet0")],
            registry: Some(registry()),
        }))]);
        host.read(|_| digest);
        let Some(Ok(Reply::Admission(answer))) = host.answer(700) else { panic!("no answer") };
        assert_eq!((answer.start, answer.outcome), (false, AdmissionOutcome::Denied));
        let begin = format!("the VM web may not start: {expected}");
        assert!(answer.message.starts_with(&begin), "{}", answer.message);
    }
}

/// A claim on a quiet host with many VMs evaluates nothing.
#[test]
fn what_has_not_changed_is_not_evaluated_again() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    let rules = rules("");
    host.turn(vec![Input::Rules(Rulebook { rules: rules.clone(), origin: None, refused: None })]);
    assert_eq!(rules.evaluations(), 1);
    for _ in 0..10 {
        host.wait(Duration::from_secs(2));
    }
    assert_eq!(rules.evaluations(), 1);
    let vms = (1..=20).map(|n| vm(&format!("vm{n}"), n, &format!("vnet{n}"))).collect();
    host.turn(vec![listing(vms)]);
    let before = rules.evaluations();
    host.wait(Duration::from_secs(2));
    assert_eq!(rules.evaluations(), before);
}
