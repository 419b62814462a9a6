//! Which VM a process is, and what is said of the ones that are none's.

use std::collections::BTreeSet;

use detector_common::settings::Mode;

use crate::{
    decide::ProcessOwner,
    model::{
        Attachment, AttachmentKind, FindingKind, HeldTap, Holds, LinkKind, PowerState, ProcessId,
        Program, Recognised, Severity, Timestamp, VmProcess,
    },
    testing::{Lab, UNKNOWN},
};

pub(super) fn process(pid: u32) -> VmProcess {
    let program = Program { name: "QEMU".to_owned(), by: Recognised::Content };
    VmProcess {
        id: ProcessId { pid, started: 7 },
        started: Timestamp(1_790_000_000_000),
        first: Timestamp(1_790_000_001_000),
        lasting: true,
        uid: 1000,
        user: Some("eve".to_owned()),
        exe: "/tmp/nginx".to_owned(),
        command: "nginx -uuid x".to_owned(),
        program: Some(program),
        obscure: None,
        holds: Holds::default(),
        attachments: Vec::new(),
        says: Default::default(),
        network: 1,
        network_is_hosts: true,
        cgroup: "/".to_owned(),
        recorded: None,
    }
}

fn taps(names: &[(&str, Option<bool>)]) -> Holds {
    let tap = |(name, here): &(&str, Option<bool>)| HeldTap { name: (*name).into(), here: *here };
    Holds { taps: names.iter().map(tap).collect(), ..Holds::default() }
}

#[test]
fn whose_it_is() {
    use ProcessOwner::{Nobody, Unsettled};
    let vm = |n| ProcessOwner::Vm(Lab::uuid(n));
    type Case = (&'static str, fn(&mut Lab, &mut VmProcess), ProcessOwner);
    let cases: &[Case] = &[
        ("nothing known", |_, _| (), Nobody),
        ("recorded", |_, it| it.recorded = Some("vm1".to_owned()), vm(1)),
        ("recorded as nobody", |_, it| it.recorded = Some("vm9".to_owned()), Nobody),
        (
            "recorded, and the manager is lost",
            |lab, it| {
                lab.lose();
                it.recorded = Some("vm9".to_owned());
            },
            Unsettled,
        ),
        (
            "recorded, known, and the manager is lost",
            |lab, it| {
                lab.lose();
                it.recorded = Some("vm1".to_owned());
            },
            vm(1),
        ),
        ("unrecorded, and the manager is lost", |lab, _| lab.lose(), Nobody),
        (
            "says that it is one",
            |_, it| {
                it.says.uuid = Some(Lab::uuid(1));
                it.says.name = Some("vm1".to_owned());
            },
            Nobody,
        ),
        ("holds its port", |_, it| it.holds = taps(&[("vnet1", Some(true))]), vm(1)),
        ("elsewhere", |_, it| it.holds = taps(&[("vnet1", Some(false))]), Nobody),
        ("who knows where", |_, it| it.holds = taps(&[("vnet1", None)]), Nobody),
        (
            "holds more than its port",
            |_, it| it.holds = taps(&[("vnet1", Some(true)), ("tap7", Some(true))]),
            Nobody,
        ),
        (
            "holds ports of two",
            |_, it| it.holds = taps(&[("vnet1", Some(true)), ("vnet2", Some(true))]),
            Nobody,
        ),
        (
            "holds the port of one that is off",
            |lab, it| {
                lab.vm(1).power = PowerState::Off;
                it.holds = taps(&[("vnet1", Some(true))]);
            },
            Nobody,
        ),
        (
            "holds the port of one whose process is on record",
            |lab, it| {
                let twin = VmProcess { recorded: Some("vm1".to_owned()), ..process(8) };
                lab.world.processes.found.insert(twin.id, twin);
                it.holds = taps(&[("vnet1", Some(true))]);
            },
            Nobody,
        ),
    ];
    for (name, change, expect) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 2);
        lab.settle();
        let mut it = process(7);
        change(&mut lab, &mut it);
        lab.world.processes.found.insert(it.id, it);
        let decision = lab.decide();
        assert_eq!(decision.processes[&ProcessId { pid: 7, started: 7 }], *expect, "{name}");
        let mut kinds = decision.findings.iter().map(|finding| finding.key.kind);
        let told = kinds.any(|kind| kind == FindingKind::UnknownVmProcess);
        assert_eq!(told, *expect == Nobody, "{name}");
    }
}

/// What is young may be a manager's own that it has not named yet; a scan that fails says nothing.
#[test]
fn what_is_told() {
    let mut lab = Lab::new(Mode::Enforce);
    let young = VmProcess { lasting: false, ..process(7) };
    lab.world.processes.found.insert(young.id, young);
    assert_eq!(lab.decide().findings, []);

    lab.world.processes.found.values_mut().for_each(|one| one.lasting = true);
    let since = lab.world.now;
    lab.world.processes.lost = Some((since, "permission denied".to_owned()));
    let findings = lab.decide().findings;
    let kinds: Vec<_> = findings.iter().map(|finding| finding.key.kind).collect();
    assert_eq!(kinds, [FindingKind::SourceLost, FindingKind::UnknownVmProcess]);
    assert_eq!(findings[1].severity, Severity::High);
    let text = format!("{findings:?}");
    for expect in ["eve (1000)", "/tmp/nginx", "2026-09-21T", "T1564.006", "process show 7"] {
        assert!(text.contains(expect), "{expect}: {text}");
    }
    assert!(!text.contains("T1572"));

    let part = VmProcess { program: None, holds: taps(&[("t", Some(true))]), ..process(7) };
    lab.world.processes.found.insert(part.id, part);
    assert_eq!(lab.decide().findings[1].severity, Severity::Medium);
}

/// Nobody floods the list, and another user's finding is not crowded out.
#[test]
fn findings_of_one_user_are_bounded() {
    let mut lab = Lab::new(Mode::Enforce);
    for pid in 1..=1000 {
        let program = process(pid).program.filter(|_| pid == 1000);
        let one = VmProcess { program, holds: taps(&[("t", None)]), ..process(pid) };
        lab.world.processes.found.insert(one.id, one);
    }
    let other = VmProcess { uid: 1001, ..process(2000) };
    lab.world.processes.found.insert(other.id, other);
    let findings = lab.decide().findings;
    assert_eq!(findings.len(), 33);
    let more = ("more of this user".to_owned(), "968".to_owned());
    assert_eq!(findings.iter().filter(|one| one.evidence.contains(&more)).count(), 1);
    let high = findings.iter().filter(|one| one.severity == Severity::High).count();
    assert_eq!(high, 2, "a VM is not hidden behind what may be one");
}

#[test]
fn hostile_texts_stay_data() {
    let mut lab = Lab::new(Mode::Enforce);
    let name = "\u{1b}[2J\u{202e}".to_owned() + &"x".repeat(9999);
    let it = VmProcess { exe: name.clone(), user: Some(name), ..process(7) };
    lab.world.processes.found.insert(it.id, it);
    let title = &lab.decide().findings[0].title;
    assert!(title.len() < 600 && !title.contains(|c: char| c.is_control()), "{title:?}");
}

#[test]
fn ways_out_without_a_guard() {
    let way = |kind, what: &str| Attachment { kind, what: what.to_owned() };
    type Case = (&'static str, fn(&mut Lab, &mut VmProcess), &'static [AttachmentKind]);
    use AttachmentKind::{Macvtap, Passthrough, Unbridged, UserMode};
    let cases: &[Case] = &[
        ("none", |_, _| (), &[]),
        (
            "the inventory lists one",
            |lab, _| {
                let what = "0000:05:00.0".to_owned();
                lab.vm(1).attachments = vec![Attachment { kind: Passthrough, what }];
            },
            &[Passthrough],
        ),
        (
            "the process says one",
            |_, it| {
                let what = "user,id=n".to_owned();
                it.attachments = vec![Attachment { kind: UserMode, what }];
            },
            &[UserMode],
        ),
        (
            "a tap in another namespace",
            |_, it| it.holds = taps(&[("t", Some(false))]),
            &[Unbridged],
        ),
        ("its port", |_, it| it.holds = taps(&[("vnet1", Some(true))]), &[]),
        (
            "its port is on no bridge",
            |lab, _| {
                lab.link(Lab::port(1), "vnet1", LinkKind::Tap, None);
                let noticed = lab.world.now;
                lab.world.noticed.insert((Lab::port(1), 0), noticed);
                lab.pass(lab.world.policy.unknown_port_grace);
            },
            &[Unbridged],
        ),
        (
            "its port is a macvtap that has its device to itself",
            |lab, _| lab.link(Lab::port(1), "vnet1", LinkKind::MacvtapPassthrough, None),
            &[Macvtap],
        ),
        (
            "the same with no port named",
            |lab, _| {
                lab.link(Lab::port(1), "macvtap0", LinkKind::MacvtapPassthrough, None);
                let link = lab.world.links.get_mut(&Lab::port(1)).unwrap();
                link.mac = Some(Lab::mac(1));
                lab.vm(1).nics[0].port = None;
            },
            &[Macvtap],
        ),
        (
            "a macvtap of another's",
            |lab, _| lab.link(70, "macvtap7", LinkKind::MacvtapPassthrough, None),
            &[],
        ),
        (
            "its port is a macvtap beside others",
            |lab, _| lab.link(Lab::port(1), "vnet1", LinkKind::Macvtap, None),
            &[],
        ),
        (
            "its port is not on its bridge yet",
            |lab, _| lab.link(Lab::port(1), "vnet1", LinkKind::Tap, None),
            &[],
        ),
        (
            "and the VM is off",
            |lab, _| {
                lab.link(Lab::port(1), "vnet1", LinkKind::Tap, None);
                lab.vm(1).power = PowerState::Off;
            },
            &[],
        ),
    ];
    for (name, change, expect) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        let mut it = VmProcess { recorded: Some("vm1".to_owned()), ..process(7) };
        change(&mut lab, &mut it);
        lab.world.processes.found.insert(it.id, it);
        let findings = lab.decide().findings;
        let found = findings.iter().find(|f| f.key.kind == FindingKind::UnguardedAttachment);
        let names: BTreeSet<_> = expect.iter().map(|kind| kind.as_str().to_owned()).collect();
        let told: BTreeSet<_> = found
            .into_iter()
            .flat_map(|finding| &finding.evidence)
            .map(|(name, _)| name.clone())
            .filter(|name| name != "uuid")
            .collect();
        assert_eq!(told, names, "{name}");
        assert!(found.is_none_or(|finding| finding.severity == Severity::Medium), "{name}");
    }

    // A quarantine does not hold there, which is worse.
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.base(1, UNKNOWN);
    lab.vm(1).attachments = vec![way(UserMode, "slirp")];
    lab.settle();
    let findings = lab.decide().findings;
    let found = findings.iter().find(|f| f.key.kind == FindingKind::UnguardedAttachment);
    assert_eq!(found.unwrap().severity, Severity::High);
}
