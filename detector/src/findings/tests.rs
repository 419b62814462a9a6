use detector_core::model::{FindingKind, Severity, Subject};

use super::*;

fn finding(subject: &str, since: u64) -> Finding {
    Finding {
        key: FindingKey { kind: FindingKind::Conflict, subject: Subject::Place(subject.into()) },
        severity: Severity::Medium,
        title: format!("{subject} contradicts itself"),
        evidence: Vec::new(),
        next: None,
        since: Timestamp(since),
    }
}

fn told(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::Opened(finding) => format!("+{:?}", finding.key.subject),
            Change::Changed(finding) => format!("*{:?}", finding.key.subject),
            Change::Closed(finding) => format!("-{:?}", finding.key.subject),
        })
        .collect()
}

#[test]
fn a_finding_is_told_of_when_it_opens_and_when_it_closes() {
    let mut tracker = Tracker::default();
    let (a, b) = ("Place(\"a\")", "Place(\"b\")");
    let steps = [
        (vec![finding("a", 0)], vec![format!("+{a}")]),
        (vec![finding("a", 1)], vec![]),
        (vec![finding("a", 2), finding("b", 2), finding("b", 2)], vec![format!("+{b}")]),
        (vec![finding("b", 3)], vec![format!("-{a}")]),
        (vec![], vec![format!("-{b}")]),
        (vec![], vec![]),
    ];
    for (at, (findings, expect)) in steps.into_iter().enumerate() {
        let changes = tracker.update(Timestamp(at as u64), findings);
        assert_eq!(told(&changes), expect, "step {at}");
    }
}

#[test]
fn a_finding_keeps_the_moment_it_opened() {
    let mut tracker = Tracker::default();
    tracker.update(Timestamp(5), vec![finding("a", 5)]);
    tracker.update(Timestamp(9), vec![finding("a", 9)]);
    assert_eq!(tracker.open()[0].since, Timestamp(5));
}

#[test]
fn what_is_said_of_one_subject_leaves_the_others_as_they_are() {
    let mut tracker = Tracker::default();
    tracker.update(Timestamp(1), vec![finding("a", 1), finding("b", 1)]);
    let subject = Subject::Place("a".into());
    let kinds = [FindingKind::Conflict, FindingKind::Flood];
    let a = "Place(\"a\")";
    let steps = [
        (kinds, vec![finding("a", 2)], vec![]),
        (kinds, vec![], vec![format!("-{a}")]),
        (kinds, vec![finding("a", 4)], vec![format!("+{a}")]),
        ([FindingKind::Flood; 2], vec![], vec![]),
    ];
    for (at, (kinds, findings, expect)) in (2..).zip(steps) {
        let changes = tracker.replace(Timestamp(at), &subject, &kinds, findings);
        assert_eq!(told(&changes), expect, "at {at}");
        if at == 2 {
            assert!(tracker.open().iter().all(|one| one.since == Timestamp(1)), "as it was");
        }
    }
    assert_eq!(tracker.open().len(), 2);
}

#[test]
fn a_flapping_finding_is_told_of_at_a_bounded_rate_and_its_end_is_not_lost() {
    let mut tracker = Tracker::default();
    let mut lines = 0;
    for at in 0..1000u64 {
        let findings = if at % 2 == 0 { vec![finding("a", at)] } else { vec![] };
        lines += tracker.update(Timestamp(at), findings).len();
    }
    assert!(lines < 10, "{lines} lines");
    tracker.update(Timestamp(1000), vec![finding("a", 1000)]);
    let until = tracker.wake_at();
    let mut state = tracker.told.len();
    if let Some(until) = until {
        tracker.update(until, vec![finding("a", 1000)]);
        state = tracker.told.len();
    }
    assert_eq!(state, 1, "people know that it is open");
    assert_eq!(tracker.wake_at(), None);
}

#[test]
fn the_journal_survives_a_place_that_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sub/findings.jsonl");
    std::fs::write(directory.path().join("sub"), "in the way").unwrap();
    let mut journal = Journal::new(&path);
    journal.write(Timestamp(1), &Change::Opened(finding("a\n\u{202e}", 1)));
    std::fs::remove_file(directory.path().join("sub")).unwrap();
    journal.write(Timestamp(2), &Change::Opened(finding("a\n\u{202e}", 1)));
    journal.write(Timestamp(3), &Change::Closed(finding("a\n\u{202e}", 1)));
    let text = std::fs::read_to_string(&path).unwrap();
    let events: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone())
        .collect();
    assert_eq!(events, ["opened", "closed"]);
}
