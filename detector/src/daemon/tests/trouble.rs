use detector_core::model::{Holds, ProcessId, Says, VmProcess};

use super::*;

fn broken(host: &mut Host, steps: &[&str]) {
    host.kernel().broken = steps.iter().map(|step| (*step).to_owned()).collect();
}

#[test]
fn a_failing_step_is_told_of_tried_again_and_holds_up_nobody_else() {
    for (step, before) in [("guard 10", Port::None), ("slot 10", Port::Mute)] {
        let mut host = Host::new(Mode::Enforce);
        broken(&mut host, &[step]);
        let vms = vec![vm("web", 1, "vnet0"), vm("app", 2, "vnet1")];
        host.turn(vec![tap(10, "vnet0"), tap(11, "vnet1"), listing(vms)]);
        host.read(|_| APPROVED);
        assert_eq!((host.port(10), host.port(11)), (before, Port::Granted), "{step}");

        host.wait(Duration::from_secs(1));
        assert!(host.told().contains(&"+enforcement-failed".to_owned()), "{step}");
        host.kernel().taken();
        for _ in 0..1000 {
            let wake = host.brain.wake_at().expect("it wants to try again").0;
            host.now = wake.max(host.now);
            host.turn(vec![]);
            if host.now > 1_000_000 + 600_000 {
                break;
            }
        }
        let tries = host.kernel().taken().len();
        assert!((10..60).contains(&tries), "{step}: {tries} tries in ten minutes");

        broken(&mut host, &[]);
        host.wait(Duration::from_secs(31));
        assert_eq!(host.port(10), Port::Granted, "{step}");
        assert_eq!(host.told(), ["-enforcement-failed"], "{step}");
        assert!(!host.kernel().taken().is_empty());
    }
}

#[test]
fn a_race_with_an_interface_that_goes_is_no_finding() {
    let mut host = Host::new(Mode::Enforce);
    broken(&mut host, &["guard 10"]);
    host.turn(vec![tap(10, "vnet0")]);
    host.turn(vec![gone(10)]);
    host.wait(Duration::from_secs(60));
    assert_eq!(host.told(), [""; 0]);
}

#[test]
fn nothing_waits_for_a_forwarding_entry() {
    let mut host = Host::new(Mode::Enforce);
    broken(&mut host, &["pin 10 52:54:00:00:00:01"]);
    let mut web = vm("web", 1, "vnet0");
    web.nics.push(Nic { mac: mac(2), ..web.nics[0].clone() });
    host.turn(vec![tap(10, "vnet0"), listing(vec![web])]);
    host.read(|_| APPROVED);
    assert_eq!(host.port(10), Port::Granted);
    let pinned = &host.kernel().state.interfaces[&10].forwarding;
    assert_eq!(pinned.iter().collect::<Vec<_>>(), [&(mac(2), 0)], "the other one");
    host.wait(Duration::from_secs(1));
    assert_eq!(host.told(), ["+enforcement-impaired"]);
}

#[test]
fn a_quarantine_that_the_kernel_refuses_is_told_to_who_asks() {
    use crate::api::{ErrorCode, schema::TargetSpec};
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    broken(&mut host, &["quarantine"]);
    let request = Request::QuarantineAdd {
        target: TargetSpec::Vm("web".to_owned()),
        reason: String::new(),
        mode: None,
    };
    let error = host.ask(request).unwrap_err();
    assert_eq!(error.code, ErrorCode::EnforcementFailed);
}

#[test]
fn what_was_seen_last_stands_while_the_kernel_cannot_be_read() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.kernel().observe_fails = true;
    host.turn(vec![tap(11, "vnet1")]);
    host.wait(Duration::from_secs(1));
    assert_eq!(host.port(10), Port::Granted);
    assert!(host.told().contains(&"+enforcement-failed".to_owned()));
    host.kernel().observe_fails = false;
    host.turn(vec![tap(11, "vnet1")]);
    assert_eq!((host.port(10), host.port(11)), (Port::Granted, Port::Mute));
    assert!(host.told().contains(&"-enforcement-failed".to_owned()));
}

#[test]
fn a_kernel_that_only_says_it_obeys_does_not_hold_the_brain() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.kernel().lies = true;
    host.turn(vec![tap(11, "vnet1")]);
    let tries = host.kernel().taken().len();
    assert!(tries < 100, "{tries} tries in one turn");
    host.kernel().lies = false;
    host.wait(Duration::from_secs(1));
    assert_eq!((host.port(10), host.port(11)), (Port::Granted, Port::Mute));
}

#[test]
fn a_scan_that_fails_says_nothing() {
    let mut host = Host::new(Mode::Enforce);
    let id = ProcessId { pid: 7, started: 1 };
    let process = VmProcess {
        id,
        started: Timestamp(1),
        first: Timestamp(1),
        lasting: true,
        uid: 0,
        user: None,
        exe: "/tmp/nginx".to_owned(),
        command: String::new(),
        program: None,
        obscure: None,
        holds: Holds { vms: 1, ..Holds::default() },
        attachments: Vec::new(),
        says: Says { name: Some("of its own accord".to_owned()), uuid: None },
        network: 1,
        network_is_hosts: true,
        cgroup: String::new(),
        recorded: None,
    };
    host.turn(vec![Input::Processes(Ok([(id, process)].into()))]);
    assert_eq!(host.told(), ["+unknown-vm-process"]);
    host.turn(vec![Input::Processes(Err("no /proc".to_owned()))]);
    host.wait(Duration::from_secs(1));
    host.turn(vec![Input::Processes(Err("still no /proc".to_owned()))]);
    host.wait(Duration::from_secs(1));
    assert_eq!(host.told(), ["+source-lost"]);
    let mut shown = |process: &str| {
        host.ask(Request::ProcessShow { process: process.to_owned() })
            .map_err(|error| error.message)
    };
    for process in ["7", "of its own accord"] {
        assert!(matches!(shown(process), Ok(Reply::Process(found)) if found.pid == 7), "{process}");
    }
    for (process, why) in [("8", "is no VM"), ("of its own acord", "did you mean")] {
        assert!(shown(process).unwrap_err().contains(why), "{process}");
    }
    host.turn(vec![Input::Processes(Ok(BTreeMap::new()))]);
    assert_eq!(host.told(), ["-source-lost", "-unknown-vm-process"]);
}

#[test]
fn tampering_is_one_finding_however_often_it_happens() {
    use crate::enforcer::{Recheck, Tampered, Tampering};
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.told();
    let instance = host.kernel().state.interfaces[&10].slot.instance;
    let tamper = |host: &mut Host, left: Option<&str>| {
        host.kernel().recheck = Recheck {
            changed: false,
            tampering: vec![Tampering {
                port: Some((10, instance)),
                what: Tampered::Program,
                found: "it was off".to_owned(),
                left: left.map(str::to_owned),
            }],
            ..Recheck::default()
        };
        host.wait(Duration::from_millis(500));
    };
    tamper(&mut host, None);
    assert_eq!(host.told(), ["+tampered"]);
    for _ in 0..3 {
        tamper(&mut host, None);
    }
    tamper(&mut host, Some("no room"));
    let open = |host: &Host| {
        let findings = host.brain.findings.open().into_iter();
        findings.map(|finding| format!("{finding:?}")).collect::<Vec<_>>()
    };
    let findings = open(&host);
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    for part in ["vnet0", "it was off", "put back 4 times", "no room", "Critical"] {
        assert!(finding.contains(part), "{part}: {finding}");
    }
    assert_eq!(host.told(), [""; 0], "told once");
    host.wait(Duration::from_secs(599));
    assert_eq!(open(&host).len(), 1);
    let wake = host.brain.wake_at().unwrap().0;
    host.now = wake;
    host.turn(vec![]);
    assert_eq!(host.told(), ["-tampered"], "it ends after ten quiet minutes");
}

/// Whoever asks the enforcer for what it may not have is told of, and on record, however often.
#[test]
fn orders_that_are_refused_are_an_incident() {
    use crate::{
        audit::Kind,
        enforcer::{Recheck, Refusals},
    };
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.told();
    let refuse = |host: &mut Host, count: u64| {
        let refused = Refusals { count, why: vec!["no gate on the bridge".to_owned()] };
        host.kernel().recheck = Recheck { refused, ..Recheck::default() };
        host.wait(Duration::from_millis(500));
        host.kernel().recheck = Recheck::default();
    };
    let records = |host: &mut Host| {
        let mut counts = Vec::new();
        host.effects.retain(|effect| match effect {
            Effect::Record(entry) if entry.kind == Kind::OrdersRefused => {
                counts.push(entry.evidence["refused"][0].clone());
                false
            }
            _ => true,
        });
        counts
    };
    refuse(&mut host, 3);
    assert_eq!(records(&mut host), ["3"]);
    assert_eq!(host.told(), ["+orders-refused"]);
    // A flood of them is one finding, and a record a minute.
    for _ in 0..300 {
        refuse(&mut host, 100);
    }
    let on_record = records(&mut host);
    assert!((2..=3).contains(&on_record.len()), "{on_record:?}");
    assert!(!host.told().iter().any(|told| told.starts_with('+')));
    host.wait(Duration::from_secs(3700));
    assert_eq!(host.told(), ["-orders-refused"]);
}
