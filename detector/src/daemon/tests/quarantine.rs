use crate::api::{ErrorCode, schema::TargetSpec};

use super::*;

fn add(target: TargetSpec) -> Request {
    Request::QuarantineAdd { target, reason: "a test".to_owned(), mode: None }
}

#[test]
fn an_operator_cuts_off_and_lets_back() {
    let targets = [
        TargetSpec::Port("vnet0".to_owned()),
        TargetSpec::Mac("52:54:00:00:00:01".to_owned()),
        TargetSpec::Vm("web".to_owned()),
        TargetSpec::Vm(uuid(1).to_string()),
    ];
    for mode in [Mode::Enforce, Mode::Observe] {
        for target in &targets {
            let mut host = Host::new(mode);
            host.approved();
            let added = host.ask(add(target.clone()));
            let Ok(Reply::Quarantine(view)) = added else { panic!("{target:?}: {added:?}") };
            assert_eq!((view.cause.as_str(), view.uid), ("operator", 1000));
            assert_eq!(host.port(10), Port::Isolated, "{target:?}");
            let released = host
                .ask(Request::QuarantineRelease { target: target.clone(), reason: String::new() });
            assert!(matches!(released, Ok(Reply::Released(_))), "{released:?}");
            assert_eq!(host.port(10), Port::Granted, "{target:?}");
        }
    }
}

#[test]
fn a_verdict_is_lifted_only_once_the_requirements_are_met() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
    host.read(|_| FOUND);
    let release = Request::QuarantineRelease {
        target: TargetSpec::Vm("web".to_owned()),
        reason: String::new(),
    };
    let refused = host.ask(release.clone()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::StillFailing);
    assert!(refused.message.contains("template-registered"), "{}", refused.message);
    assert_eq!(host.port(10), Port::Isolated);

    let mut registry = registry();
    registry.templates[0].images[0].sha256 = FOUND;
    host.turn(vec![Input::Registry(registry)]);
    assert_eq!(host.port(10), Port::Isolated, "quarantine is sticky");
    assert!(matches!(host.ask(release), Ok(Reply::Released(_))));
    assert_eq!(host.port(10), Port::Granted);
}

#[test]
fn a_quarantine_stays_when_its_vm_is_forgotten() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
    host.read(|_| FOUND);
    host.turn(vec![gone(10), said(Update::Gone(uuid(1)))]);
    assert_eq!(host.kernel().state.quarantines.len(), 1);
    host.turn(vec![tap(11, "vnet0"), said(Update::Changed(vm("web", 1, "vnet0")))]);
    assert_eq!(host.port(11), Port::Isolated);
}

#[test]
fn targets_that_are_none() {
    let cases = [
        (TargetSpec::Port("nosuch".to_owned()), ErrorCode::NotFound),
        (TargetSpec::Port("br0".to_owned()), ErrorCode::BadRequest),
        (TargetSpec::Mac("zz".to_owned()), ErrorCode::BadRequest),
        (TargetSpec::Vm("nosuch".to_owned()), ErrorCode::NotFound),
        (TargetSpec::Vm("twin".to_owned()), ErrorCode::Ambiguous),
        (TargetSpec::Port("10/99".to_owned()), ErrorCode::NotFound),
    ];
    for (target, code) in cases {
        let mut host = Host::new(Mode::Enforce);
        host.approved();
        let twins = vec![vm("twin", 3, "x"), vm("twin", 4, "y"), vm("web", 1, "vnet0")];
        host.turn(vec![listing(twins)]);
        let error = host.ask(add(target.clone())).unwrap_err();
        assert_eq!(error.code, code, "{target:?}: {error}");
    }
}

#[test]
fn a_watcher_sees_every_change_until_it_hangs_up() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.turn(vec![Input::Request { id: 500, uid: 0, request: Request::QuarantineWatch {} }]);
    assert_eq!(host.answer(500), Some(Ok(Reply::Quarantines(vec![]))));
    let target = TargetSpec::Vm("web".to_owned());
    host.ask(add(target.clone())).unwrap();
    host.ask(Request::QuarantineRelease { target: target.clone(), reason: String::new() }).unwrap();
    let mut imposed = Vec::new();
    while let Some(reply) = host.answer(500) {
        let Ok(Reply::QuarantineChange(change)) = reply else { panic!("{reply:?}") };
        imposed.push((change.imposed, change.quarantine.name));
    }
    assert_eq!(imposed, [(true, "web".to_owned()), (false, "web".to_owned())]);
    host.turn(vec![Input::HungUp(500)]);
    host.ask(add(target)).unwrap();
    assert_eq!(host.answer(500), None);
}

#[test]
fn explanations_say_what_why_and_what_would_change_it() {
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
    host.read(|_| FOUND);
    for subject in ["web", "vnet0", "52:54:00:00:00:01", &uuid(1).to_string()] {
        let reply = host.ask(Request::Explain { subject: subject.to_owned() });
        let Ok(Reply::Explanation(explained)) = reply else { panic!("{subject}: {reply:?}") };
        assert_eq!(explained.quarantines.len(), 1, "{subject}");
        assert_eq!(explained.vm.as_ref().map(|vm| vm.media.len()), Some(1), "{subject}");
        let commands: Vec<_> =
            explained.remedies.iter().filter_map(|remedy| remedy.command.as_deref()).collect();
        assert_eq!(commands, ["detector quarantine release vm web"], "{subject}");
    }
    let unknown = host.ask(Request::Explain { subject: "nosuch".to_owned() });
    assert_eq!(unknown.map_err(|error| error.code), Err(ErrorCode::NotFound));
}
