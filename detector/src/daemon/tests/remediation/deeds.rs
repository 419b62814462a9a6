//! What hands do, and whose it is.

use detector_common::learned::Origin;
use detector_core::model::{KnownLease, Learned};

use super::*;
use crate::{daemon::input::Admit, remediate::hands::Order};

/// Lets things happen until a deed is asked for, which nobody does.
pub(super) fn until_ordered(host: &mut Host, disk: &mut Disk) -> Running {
    next_order(host, disk).0
}

fn next_order(host: &mut Host, disk: &mut Disk) -> (Running, Order) {
    for _ in 0..200 {
        let is_order = |effect: &Effect| matches!(effect, Effect::Remedy { .. });
        if let Some(at) = host.effects.iter().position(is_order) {
            let Effect::Remedy { deed, order, .. } = host.effects.remove(at) else { panic!() };
            return (deed, order);
        }
        if !serve(host, disk) {
            host.turn(vec![Input::Tick]);
        }
    }
    panic!("nothing is asked for");
}

/// Whatever the inventory, the kernel and lease files say of its own NICs, and of nobody else's.
#[test]
fn a_provisioner_is_told_the_addresses_of_its_vm() {
    let mut disk = Disk::new();
    let mut host = rogue(&disk, 1);
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    let deed = until_ordered(&mut host, &mut disk);
    let mut listed = disk.vm();
    listed.nics[0].addresses =
        ["192.0.2.9/32", "198.51.100.0/24"].map(|net| net.parse().unwrap()).to_vec();
    host.turn(vec![listing(vec![listed])]);
    let at = |host: &Host, seconds: u64| Some(Timestamp(host.now) + Duration::from_secs(seconds));
    let learned = |number: u8, address: &str, expires| Learned {
        instance: 1,
        scope: BRIDGE,
        mac: mac(number),
        vlan: 0,
        address: address.parse().unwrap(),
        origin: Origin::FirstCome,
        since: Timestamp(1),
        expires,
    };
    let leased = |address: &str, expires| KnownLease {
        mac: mac(1),
        vlan: 0,
        bridge: None,
        address: address.parse().unwrap(),
        expires,
        from_file: true,
    };
    let known = vec![
        learned(1, "2001:db8::7", None),
        learned(1, "192.0.2.9", None),
        learned(2, "192.0.2.2", None),
    ];
    host.kernel().learned = [(10, known)].into();
    host.brain.world.learned = host.kernel().learned.clone();
    host.brain.world.leases =
        vec![leased("192.0.2.77", at(&host, 600)), leased("192.0.2.78", Some(Timestamp(1)))];
    let ended = Report::Ended(Ok(Done::default()));
    host.turn(vec![Input::Remedied { vm: uuid(1), deed, report: ended }]);
    let (_, order) = next_order(&mut host, &mut disk);
    let addresses = ["192.0.2.9", "192.0.2.77", "2001:db8::7"];
    let addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
    assert_eq!(order, Order::Provision { provisioner: "offline".to_owned(), addresses });
}

/// What a workflow that was aborted had asked for ends when the VM has another one.
#[test]
fn a_late_result_is_no_step_of_the_next_workflow() {
    let mut disk = Disk::new();
    let mut host = rogue(&disk, 1);
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    let late = until_ordered(&mut host, &mut disk);
    assert_eq!(late.step, Step::Evidence);
    let abort = Request::RemediateAbort { vm: VM.to_owned(), reason: "not so".to_owned() };
    ask(&mut host, &mut disk, 1000, abort).unwrap();
    assert!(host.effects.iter().any(|effect| matches!(effect, Effect::StopRemedy(_))));
    rest(&mut host, &mut disk);
    host.wait(Duration::from_secs(1));
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    rest(&mut host, &mut disk);
    assert_eq!(disk.deeds, [], "one at a time");
    let current = |host: &Host| {
        let workflow = host.brain.remediation.workflow(uuid(1)).unwrap();
        workflow.current().map(|planned| (planned.step, planned.has_begun(), planned.note.clone()))
    };
    let begun = Some((Step::Evidence, true, String::new()));
    assert_eq!(current(&host), begun);
    let progress = Report::Progress(Progress { percent: Some(50), says: "late".to_owned() });
    let ended = Report::Ended(Ok(Done { says: "kept".to_owned(), ..Done::default() }));
    let vm = uuid(1);
    host.turn(vec![Input::Remedied { vm, deed: late, report: progress }]);
    assert_eq!(current(&host), begun);
    host.turn(vec![Input::Remedied { vm, deed: late, report: ended }]);
    assert_eq!(current(&host), begun);
    let own = until_ordered(&mut host, &mut disk);
    assert!(own.step == Step::Evidence && own.workflow > late.workflow);
    let ended = Report::Ended(Ok(Done::default()));
    host.turn(vec![Input::Remedied { vm, deed: own, report: ended }]);
    rest(&mut host, &mut disk);
    assert_eq!(disk.deeds, [Step::Provision]);
    let history = view(&mut host).history;
    assert!(history.iter().any(|event| event.what.contains("of the remediation before has ended")));
}

/// The successor is who is asked about, read and judged from now on.
fn takes_over(host: &mut Host, disk: &mut Disk) {
    let (former, new) = (Vm { power: PowerState::Off, ..vm("web-rogue", 1, "") }, uuid(9));
    let successor = |power| Vm { power, ..vm(VM, 9, "vnet1") };
    host.turn(vec![tap(11, "vnet1"), listing(vec![former.clone(), successor(PowerState::Off)])]);
    rest(host, disk);
    let seen = view(host);
    assert_eq!((seen.vm.uuid, seen.successor.map(|vm| vm.uuid)), (uuid(1), Some(new)));
    assert!(seen.waits.unwrap().contains("start it"));
    disk.image = PATCHED;
    host.turn(vec![listing(vec![former, successor(PowerState::Running)])]);
    let workflow = host.brain.remediation.workflow(uuid(1)).unwrap();
    assert!(host.brain.sight(&host.brain.sighting(workflow)).reading, "that of the former is over");
    rest(host, disk);
    assert_eq!((view(host).stage, host.port(11)), (Stage::Replaced, Port::Granted));
}

/// A template that no VM can be made from is refused with what it lacks.
#[test]
fn a_replacement_is_made_from_a_template_that_says_where_its_images_are() {
    let placed = |role| Image { path: Some("/images/a".into()), ..Image::new(role, PATCHED) };
    let bare = Image::new(MediumRole::Disk, PATCHED);
    let disk_of = || placed(MediumRole::Disk);
    let cases: [(&str, Vec<Image>, Option<&str>); 5] = [
        ("whole", vec![disk_of()], None),
        ("with a kernel", vec![disk_of(), placed(MediumRole::Kernel)], None),
        ("nowhere", vec![bare], Some("add `path`")),
        ("a kernel nowhere", vec![disk_of(), Image::new(MediumRole::Kernel, PATCHED)], Some("add")),
        ("two disks", vec![disk_of(), disk_of()], Some("several images")),
    ];
    for (name, images, why) in cases {
        let mut disk = Disk::new();
        let mut host = rogue(&disk, 1);
        let mut registry = registry();
        registry
            .templates
            .push(Template { images, ..Template::new("new", TemplateStatus::Approved) });
        host.turn(vec![Input::Registry(registry)]);
        let outcome = Outcome::Replaced { template: "new".to_owned() };
        ask(&mut host, &mut disk, 1000, start(outcome)).unwrap();
        rest(&mut host, &mut disk);
        let approve = Request::RemediateApprove {
            vm: VM.to_owned(),
            digests: Vec::new(),
            reason: "not ours".to_owned(),
        };
        ask(&mut host, &mut disk, 1000, approve).unwrap();
        rest(&mut host, &mut disk);
        let waits = view(&mut host).waits.unwrap_or_default();
        assert_eq!(disk.deeds.contains(&Step::Replace), why.is_none(), "{name}: {waits}");
        assert!(waits.contains(why.unwrap_or_default()), "{name}: {waits}");
        if why.is_none() {
            takes_over(&mut host, &mut disk);
        }
    }
}

/// Where denied VMs may not start, one that a provisioner has run does, since it is cut off.
#[test]
fn who_is_being_provisioned_may_start() {
    let mut disk = Disk::new();
    let mut host = Host::with(Mode::Enforce, |rules| rules.denied = OnRefusal::Refuse);
    cut_off(&mut host, &disk, 1);
    ask(&mut host, &mut disk, 1000, start(patched())).unwrap();
    for expect in [Step::Evidence, Step::Provision] {
        let deed = until_ordered(&mut host, &mut disk);
        assert_eq!(deed.step, expect);
        host.turn(vec![Input::Admit(Box::new(Admit {
            id: 9_000,
            source: LIBVIRT.to_owned(),
            name: VM.to_owned(),
            vm: Ok(disk.vm()),
            links: Vec::new(),
            registry: None,
        }))]);
        host.read(|_| FOUND);
        let answer = host.answer(9_000);
        let Some(Ok(Reply::Admission(answer))) = answer else { panic!("{expect:?}: {answer:?}") };
        assert_eq!(answer.start, expect == Step::Provision, "{}", answer.message);
        let report = Report::Ended(Ok(Done::default()));
        host.turn(vec![Input::Remedied { vm: uuid(1), deed, report }]);
        assert_eq!(host.port(10), Port::Isolated);
    }
}
