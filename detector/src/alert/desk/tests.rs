use std::time::Duration;

use detector_core::model::{FindingKind, Severity, Subject};

use super::*;
use crate::{
    alert::outbox::Began,
    config::{Config, alerts::Url},
};

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn at(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

fn finding(place: &str, severity: Severity) -> Finding {
    Finding {
        key: FindingKey { kind: FindingKind::EntryRejected, subject: Subject::Place(place.into()) },
        severity,
        title: format!("{place} is wrong"),
        evidence: Vec::new(),
        next: None,
        since: detector_core::model::Timestamp(0),
    }
}

/// A desk with a receiver of everything and one of what is medium at least.
fn desk(path: &std::path::Path) -> Desk {
    let text = "
        [[alerts.journald]]
        name = \"all\"
        [[alerts.webhook]]
        name = \"some\"
        min_severity = \"medium\"
        url = \"http://127.0.0.1:9/secret\"
        secret_file = \"/nowhere\"
    ";
    let config = Config::parse(text, std::path::Path::new("c.toml")).unwrap().alerts;
    assert_eq!(config.webhook[0].url.to_string(), "http://127.0.0.1:9", "no path in what is shown");
    let _: &Url = &config.webhook[0].url;
    let origin = Arc::new(Origin { host: "hv1".into(), uid: "u".into(), version: "0" });
    let sinks = Sink::all(&config, &origin, None);
    let Began { outbox, state, .. } = Outbox::open(path, 1 << 20).unwrap();
    Desk::new(outbox, state, sinks, origin)
}

/// What has been told since the last time, and to whom.
fn told(desk: &mut Desk) -> Vec<String> {
    let mut all = Vec::new();
    for sink in ["all", "some"] {
        let entries = desk.outbox.next(sink, 100);
        all.extend(entries.iter().map(|entry| {
            let place = entry.notice.finding.title.split(' ').next().unwrap();
            format!("{sink}: {} {place}", entry.notice.event)
        }));
        desk.outbox.delivered(sink, &entries);
    }
    all
}

fn mark(until: Option<Timestamp>) -> Mark {
    Mark { uid: 0, user: Some("root".into()), why: "so".into(), at: START, until }
}

#[test]
fn each_finding_is_told_once_and_its_end_is_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let mut one = desk(&path);
    let a = finding("a", Severity::Low);
    one.take(&Change::Opened(a.clone()), at(1));
    one.take(&Change::Opened(a.clone()), at(2));
    assert_eq!(told(&mut one), ["all: opened a"]);
    one.take(&Change::Changed(Finding { severity: Severity::Medium, ..a.clone() }), at(3));
    assert_eq!(told(&mut one), ["all: changed a", "some: changed a"]);
    let alert = one.state.open().values().next().unwrap().id;
    drop(one);

    // A restart: what is still the case is no news, and what is over while the daemon was away ends.
    let mut one = desk(&path);
    one.take(&Change::Opened(finding("b", Severity::Medium)), at(4));
    one.take(&Change::Opened(a.clone()), at(4));
    assert_eq!(told(&mut one), ["all: opened b", "some: opened b"]);
    assert!(one.state.open().values().any(|known| known.id == alert), "it is the same alert");
    one.take_all(&[finding("b", Severity::Medium), finding("c", Severity::Low)], at(5));
    assert_eq!(told(&mut one), ["all: closed a", "all: opened c", "some: closed a"]);
    one.take(&Change::Closed(finding("b", Severity::Medium)), at(6));
    one.take(&Change::Closed(finding("b", Severity::Medium)), at(7));
    assert_eq!(told(&mut one), ["all: closed b", "some: closed b"]);
    one.take(&Change::Opened(a), at(8));
    assert!(one.state.open().values().all(|known| known.id != alert), "it is another alert");
}

#[test]
fn what_is_suppressed_is_told_when_that_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut one = desk(&directory.path().join("outbox.db"));
    let a = finding("a", Severity::Medium);
    one.take(&Change::Opened(a.clone()), at(1));
    told(&mut one);
    let id = one.state.open().values().next().unwrap().view.id.clone();
    one.mark(Deed::Suppressed, &id, Some(mark(Some(at(10)))), at(2));
    assert_eq!(told(&mut one), ["all: suppressed a", "some: suppressed a"]);
    assert_eq!(one.still_open(0, at(3)), [], "nothing fires of it meanwhile");
    one.take(&Change::Changed(Finding { severity: Severity::Medium, ..a.clone() }), at(3));
    one.tick(at(9));
    assert_eq!(told(&mut one), [""; 0]);
    one.tick(at(10));
    assert_eq!(told(&mut one), ["all: opened a", "some: opened a"]);
    // By kind, and what opens and closes meanwhile is told to nobody.
    one.mark(Deed::Suppressed, "entry-rejected", Some(mark(Some(at(20)))), at(11));
    told(&mut one);
    one.take(&Change::Opened(finding("b", Severity::Medium)), at(12));
    one.take(&Change::Closed(finding("b", Severity::Medium)), at(13));
    one.take(&Change::Closed(a.clone()), at(13));
    assert_eq!(told(&mut one), [""; 0]);
    one.take(&Change::Opened(a), at(14));
    assert_eq!(one.mark(Deed::Suppressed, "entry-rejected", None, at(15)).unwrap().why, "so");
    assert_eq!(told(&mut one), ["all: opened a", "some: opened a"]);
    assert_eq!(one.mark(Deed::Suppressed, "entry-rejected", None, at(15)), None);
}

#[test]
fn an_acknowledgement_is_told_and_ends_with_the_finding() {
    let directory = tempfile::tempdir().unwrap();
    let mut one = desk(&directory.path().join("outbox.db"));
    let a = finding("a", Severity::Low);
    one.take(&Change::Opened(a.clone()), at(1));
    told(&mut one);
    let id = one.state.open().values().next().unwrap().view.id.clone();
    one.mark(Deed::Acknowledged, &id, Some(mark(None)), at(2));
    let entries = one.outbox.next("all", 9);
    assert_eq!(entries[0].notice.mark().unwrap().who(), "root");
    assert_eq!(told(&mut one), ["all: acknowledged a"]);
    one.take(&Change::Closed(a.clone()), at(3));
    assert!(one.state.marks().is_empty());
    one.take(&Change::Opened(a), at(4));
    let entries = one.outbox.next("all", 9);
    assert_eq!(entries.last().unwrap().notice.finding.acknowledged, None);
}

#[test]
fn every_notice_has_an_identifier_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut one = desk(&directory.path().join("outbox.db"));
    let a = finding("a", Severity::Medium);
    for _ in 0..5 {
        one.take(&Change::Opened(a.clone()), at(1));
        one.take(&Change::Closed(a.clone()), at(1));
    }
    let entries = one.outbox.next("all", 99);
    let ids: BTreeSet<_> = entries.iter().map(|entry| entry.notice.id).collect();
    assert_eq!((ids.len(), entries.len()), (10, 10));
    // Both receivers are told of the same by the same.
    let same = one.outbox.next("some", 99);
    assert!(same.iter().all(|entry| ids.contains(&entry.notice.id)));
}
