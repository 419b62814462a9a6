use std::fs;

use detector_core::model::{FindingKey, FindingKind, Severity, Subject};
use uuid::Uuid;

use super::*;
use crate::{
    alert::{
        notice::Event,
        state::{Alert, Deed},
    },
    api::view::{FindingView, Mark},
};

const MOST: u64 = 1 << 20;

fn notice(number: u128, severity: Severity) -> (String, Notice) {
    let at = jiff::Timestamp::UNIX_EPOCH;
    let finding = FindingView {
        id: format!("{number}"),
        kind: FindingKind::Conflict,
        subject: Subject::Host,
        severity,
        title: "x".repeat(200),
        evidence: Vec::new(),
        next: None,
        since: at,
        acknowledged: None,
        suppressed: None,
    };
    let (id, alert) = (Uuid::from_u128(number), Uuid::from_u128(0));
    ("a".to_owned(), Notice { id, alert, event: Event::Opened, at, finding })
}

fn numbers(outbox: &mut Outbox) -> Vec<u128> {
    outbox.next("a", 1000).iter().map(|entry| entry.notice.id.as_u128()).collect()
}

fn open(path: &Path, most: u64) -> (Outbox, State) {
    let Began { outbox, state, .. } = Outbox::open(path, most).unwrap();
    (outbox, state)
}

#[test]
fn what_waits_and_what_was_said_outlast_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let (mut outbox, mut state) = open(&path, MOST);
    assert_eq!(outbox.trouble(), None);
    let at = jiff::Timestamp::UNIX_EPOCH;
    let mark = Mark { uid: 7, user: None, why: "so".to_owned(), at, until: Some(at) };
    state.set_mark(Deed::Suppressed, "flood", Some(mark.clone()));
    let key = FindingKey { kind: FindingKind::Conflict, subject: Subject::Host };
    let view = notice(0, Severity::Low).1.finding;
    let alert = Alert { id: Uuid::from_u128(5), told: true, view };
    state.set(key.clone(), alert.clone());
    let notices: Vec<_> = (1..=3).map(|number| notice(number, Severity::Low)).collect();
    outbox.commit(&mut state, &notices);
    let first = outbox.next("a", 1);
    outbox.delivered("a", &first);
    drop(outbox);

    let (mut outbox, mut state) = open(&path, MOST);
    assert_eq!(numbers(&mut outbox), [2, 3]);
    assert_eq!(state.mark(Deed::Suppressed, "flood"), Some(&mark));
    assert_eq!(state.open().get(&key), Some(&alert));
    assert_eq!(outbox.tally("a"), Tally { delivered: 1, refused: 0, dropped: 0 });
    state.end(&key);
    state.set_mark(Deed::Suppressed, "flood", None);
    let second = outbox.next("a", 1);
    outbox.refused("a", &second[0]);
    outbox.commit(&mut state, &[]);
    drop(outbox);

    let (mut outbox, state) = open(&path, MOST);
    assert!(state.open().is_empty() && state.marks().is_empty());
    assert_eq!(numbers(&mut outbox), [3]);
    assert_eq!(outbox.tally("a").refused, 1);
    assert_eq!(outbox.waiting("a").0, 1);
    assert_eq!(outbox.waiting("b").0, 0);
}

#[test]
fn what_has_no_room_is_the_oldest_of_the_least_severe_and_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let one = serde_json::to_string(&notice(100, Severity::Low).1).unwrap().len() as u64 + 64;
    let (mut outbox, mut state) = open(&directory.path().join("outbox.db"), one * 40 + one / 2);
    for number in 100..140 {
        let severity = if number % 2 == 0 { Severity::High } else { Severity::Low };
        outbox.commit(&mut state, &[notice(number, severity)]);
    }
    assert_eq!(numbers(&mut outbox).len(), 40);
    outbox.commit(&mut state, &[notice(200, Severity::Critical)]);
    let left = numbers(&mut outbox);
    let severe = (100..140).step_by(2);
    assert!(severe.clone().all(|number| left.contains(&number)), "{left:?}");
    assert!(left.contains(&200));
    let lost = 41 - left.len() as u64;
    assert_eq!(outbox.tally("a").dropped, lost);
    assert!(left.contains(&139) && !left.contains(&101), "the oldest go first: {left:?}");
    assert!(left.is_sorted(), "{left:?}");
    let (size, most) = outbox.size();
    assert!(size <= most);
}

#[test]
fn a_disk_that_takes_nothing_loses_and_reorders_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let (mut outbox, mut state) = open(&path, MOST);
    outbox.commit(&mut state, &[notice(1, Severity::Low), notice(2, Severity::Low)]);
    // What a full disk comes to, for SQLite.
    let limit = |outbox: &Outbox, pages: i64| {
        let disk = outbox.disk.as_ref().unwrap();
        disk.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    };
    limit(&outbox, 1);
    let many: Vec<_> = (3..200).map(|number| notice(number, Severity::Low)).collect();
    outbox.commit(&mut state, &many);
    assert!(outbox.trouble().unwrap().contains("make room"), "{:?}", outbox.trouble());
    outbox.save(&mut state);
    assert!(outbox.trouble().is_some(), "it is still full");
    assert_eq!(numbers(&mut outbox), (1..200).collect::<Vec<_>>());
    let first = outbox.next("a", 1);
    outbox.delivered("a", &first);
    assert_eq!(numbers(&mut outbox)[0], 2, "what was delivered does not come again");
    limit(&outbox, 1 << 20);
    outbox.commit(&mut state, &[notice(200, Severity::Low)]);
    outbox.save(&mut state);
    assert_eq!(outbox.trouble(), None);
    outbox.commit(&mut state, &[notice(201, Severity::Low)]);
    drop(outbox);
    let (mut outbox, _) = open(&path, MOST);
    assert_eq!(numbers(&mut outbox), (2..=201).collect::<Vec<_>>());
}

#[test]
fn a_file_that_cannot_be_used_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    // Damaged: it is set aside. Of a newer build: it stays as it is, and alerts are in memory.
    fs::write(&path, "this is no database, whatever its name says").unwrap();
    let began = Outbox::open(&path, MOST).unwrap();
    let aside = began.set_aside.unwrap();
    assert!(fs::read_to_string(aside.path).unwrap().contains("no database"));
    assert_eq!(began.outbox.trouble(), None);
    drop(began.outbox);
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    for (path, says) in
        [(path, "newer"), (directory.path().join("nowhere/outbox.db"), "No such file")]
    {
        let (mut outbox, mut state) = open(&path, MOST);
        assert!(outbox.trouble().unwrap().contains(says), "{:?}", outbox.trouble());
        outbox.commit(&mut state, &[notice(1, Severity::Low)]);
        assert_eq!(numbers(&mut outbox), [1]);
        outbox.save(&mut state);
        let first = outbox.next("a", 9);
        outbox.delivered("a", &first);
        assert_eq!(numbers(&mut outbox), [0; 0]);
        assert_eq!(outbox.tally("a").delivered, 1);
    }
}
