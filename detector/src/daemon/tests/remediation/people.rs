//! Who approves what, and what comes back by it.

use super::{super::super::input::Admit, *};

#[test]
fn a_template_brings_all_vms_of_its_image_back_at_once() {
    let mut disk = Disk::new();
    let mut host = rogue(&disk, 1);
    let twins = || vec![disk.vm(), vm("twin", 2, "vnet1"), vm("other", 3, "vnet2")];
    host.turn(vec![tap(11, "vnet1"), tap(12, "vnet2"), listing(twins())]);
    host.read(|path| if path.ends_with("other") { PATCHED } else { FOUND });
    assert_eq!([10, 11, 12].map(|port| host.port(port)), [Port::Isolated; 3]);
    let mut registry = registry();
    registry.templates.push(Template {
        images: vec![Image::new(MediumRole::Disk, FOUND)],
        ..Template::new("web", TemplateStatus::Approved)
    });
    host.turn(vec![Input::Registry(registry)]);
    assert_eq!(host.port(11), Port::Isolated, "quarantine is sticky");
    let mut request = start(Outcome::Template { template: "web".to_owned() });
    if let Request::RemediateStart { digests, alike, .. } = &mut request {
        (*digests, *alike) = (vec![FOUND], true);
    }
    let mut wrong = request.clone();
    if let Request::RemediateStart { digests, .. } = &mut wrong {
        *digests = vec![PATCHED];
    }
    assert!(ask(&mut host, &mut disk, 0, wrong).is_err(), "it boots from something else");
    let Ok(Reply::Remediations(views)) = ask(&mut host, &mut disk, 0, request) else { panic!() };
    assert_eq!(views.len(), 2);
    rest(&mut host, &mut disk);
    let ports = [10, 11, 12].map(|port| host.port(port));
    assert_eq!(ports, [Port::Granted, Port::Granted, Port::Isolated]);
}

#[test]
fn two_others_have_to_approve_where_two_are_asked_for() {
    let mut disk = Disk::new();
    let mut host = rogue(&disk, 2);
    let at_once = Request::RemediateStart {
        vm: VM.to_owned(),
        outcome: patched(),
        reason: "ticket 42".to_owned(),
        digests: vec![FOUND],
        alike: false,
    };
    let refused = ask(&mut host, &mut disk, 1000, at_once).unwrap_err();
    assert!(refused.message.contains("2 others"), "{}", refused.message);
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    rest(&mut host, &mut disk);
    switch(&mut host, &mut disk, PowerState::Off);
    assert!(ask(&mut host, &mut disk, 1000, approve(PATCHED)).is_err(), "who has started it");
    ask(&mut host, &mut disk, 1001, approve(PATCHED)).unwrap();
    assert!(ask(&mut host, &mut disk, 1001, approve(PATCHED)).is_err(), "once each");
    rest(&mut host, &mut disk);
    assert_eq!(view(&mut host).stage, Stage::Provisioning);
    ask(&mut host, &mut disk, 1002, approve(PATCHED)).unwrap();
    rest(&mut host, &mut disk);
    assert_eq!(view(&mut host).stage, Stage::Verifying);
}

/// What libvirt waits for is the release, where it comes to that.
#[test]
fn a_start_that_is_verified_waits_for_its_release() {
    let mut disk = Disk::new();
    let mut host = Host::with(Mode::Enforce, |rules| rules.denied = OnRefusal::Refuse);
    cut_off(&mut host, &disk, 1);
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    rest(&mut host, &mut disk);
    switch(&mut host, &mut disk, PowerState::Off);
    ask(&mut host, &mut disk, 1000, approve(PATCHED)).unwrap();
    rest(&mut host, &mut disk);
    for (image, starts) in [(FOUND, false), (PATCHED, true)] {
        disk.image = image;
        host.calls += 1;
        let id = host.calls;
        let admit = Admit {
            id,
            source: LIBVIRT.to_owned(),
            name: VM.to_owned(),
            vm: Ok(Vm { power: PowerState::Starting, ..disk.vm() }),
            links: vec![link(10, "vnet0")],
            registry: None,
        };
        host.turn(vec![Input::Admit(Box::new(admit))]);
        rest(&mut host, &mut disk);
        let Some(Ok(Reply::Admission(answer))) = host.answer(id) else { panic!("{image}") };
        assert_eq!(answer.start, starts, "{image}: {}", answer.message);
        assert_eq!(host.port(10) == Port::Granted, starts, "{image}");
    }
}
