use detector_core::model::{FindingKey, FindingKind, ProcessId};
use uuid::Uuid;

use super::*;
use crate::{
    api::view::{FindingView, Mark},
    findings,
};

fn origin() -> Origin {
    Origin { host: "hv1".to_owned(), uid: "0123".to_owned(), version: "0.0.0" }
}

fn notice(kind: FindingKind, subject: Subject, severity: Severity, event: Event) -> Notice {
    let at = "2026-01-02T03:04:05Z".parse().unwrap();
    let mark = Mark { uid: 0, user: None, why: "I see\u{1b}[31m".to_owned(), at, until: Some(at) };
    let key = FindingKey { kind, subject: subject.clone() };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let finding = FindingView {
        id: findings::id(&key),
        kind,
        subject,
        severity,
        title: "VM \"we\u{202e}b\" does not meet the policy.".to_owned(),
        evidence: vec![
            pair("port", "tap0"),
            pair("claim", "a"),
            pair("claim", "b"),
            pair("claim", "c"),
        ],
        next: Some("detector explain web".to_owned()),
        since: at,
        acknowledged: (event == Event::Acknowledged).then(|| mark.clone()),
        suppressed: (event == Event::Suppressed).then_some(mark),
    };
    Notice { id: Uuid::from_u128(1), alert: Uuid::from_u128(2), event, at, finding }
}

/// Everything that can be told.
fn notices() -> impl Iterator<Item = Notice> {
    let subjects = [
        Subject::Vm(Uuid::from_u128(9)),
        Subject::Port { ifindex: 7, instance: 3 },
        Subject::Source("qemu:///system".to_owned()),
        Subject::Place("/etc/detector/x.toml:3:1".to_owned()),
        Subject::Process(ProcessId { pid: 4711, started: 99 }),
        Subject::Host,
    ];
    let events = [
        Event::Opened,
        Event::Changed,
        Event::Acknowledged,
        Event::Suppressed,
        Event::Closed,
        Event::Test,
    ];
    FindingKind::ALL.into_iter().flat_map(move |kind| {
        let subjects = subjects.clone();
        events.into_iter().flat_map(move |event| {
            let severity = kind.class().severity;
            let severities = [*severity.start(), *severity.end(), Severity::Info];
            subjects
                .clone()
                .into_iter()
                .zip(severities.into_iter().cycle())
                .map(move |(subject, severity)| notice(kind, subject, severity, event))
        })
    })
}

#[test]
fn the_published_schema_takes_every_event() {
    let schema = include_str!("../../../../tests/ocsf/detection_finding-1.5.0.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let mut count = 0;
    for notice in notices() {
        let event = event(&notice, &origin());
        let wrong: Vec<_> = schema.iter_errors(&event).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?} in {event:#}");
        count += 1;
    }
    assert!(count > 1000, "{count}");
    // It is no schema that takes anything.
    for (path, value) in [
        ("/severity_id", json!(7)),
        ("/class_uid", json!(2005)),
        ("/finding_info/attacks", json!([{}])),
        ("/device", json!({ "hostname": "x" })),
        ("/metadata/nothing", json!(1)),
    ] {
        let one = notice(FindingKind::RogueVm, Subject::Host, Severity::High, Event::Opened);
        let mut event = event(&one, &origin());
        match path.strip_suffix("/nothing") {
            Some(object) => event.pointer_mut(object).unwrap()["nothing"] = value,
            None => *event.pointer_mut(path).unwrap() = value,
        }
        assert!(!schema.is_valid(&event), "{path}");
    }
}

#[test]
fn an_event_says_what_is_the_matter() {
    let one = notice(
        FindingKind::RogueVm,
        Subject::Vm(Uuid::from_u128(9)),
        Severity::High,
        Event::Acknowledged,
    );
    let event = event(&one, &origin());
    let at = |path: &str| event.pointer(path).cloned().unwrap_or_default();
    let cases = [
        ("/type_uid", json!(200_402)),
        ("/severity_id", json!(4)),
        ("/status_id", json!(2)),
        ("/time", json!(1_767_323_045_000_i64)),
        ("/metadata/uid", json!(Uuid::from_u128(1))),
        ("/finding_info/uid", json!(Uuid::from_u128(2))),
        ("/finding_info/attacks/0/sub_technique/uid", json!("T1564.006")),
        ("/finding_info/attacks/0/tactic/uid", json!("TA0005")),
        ("/evidences/0/data/claim", json!(["a", "b", "c"])),
        ("/evidences/0/data/port", json!("tap0")),
        ("/message", json!("VM \"we\\u{202e}b\" does not meet the policy.")),
        ("/comment", json!("uid 0: I see\\u{1b}[31m")),
    ];
    for (path, value) in cases {
        assert_eq!(at(path), value, "{path}");
    }
}
