use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::Connection;

use super::*;

/// Clears the screen, reorders text, breaks the line.
const HOSTILE: &str = "web\u{1b}[2J\u{202e}1\n\u{7f}\u{1f980}";

fn entry(number: usize) -> Entry {
    Entry::new(Kind::Vm, Who::Daemon)
        .on(Subject::new("vm", number.to_string()).named(HOSTILE))
        .change(Some("pending"), "approved")
        .why("it meets every requirement")
        .because("rules", ["template-approved"])
}

fn entries(count: usize) -> Vec<(Timestamp, Entry)> {
    (0..count).map(|number| (Timestamp::now(), entry(number))).collect()
}

/// A chain of so many records, the first included, signed at 5 and at its end.
fn chain(directory: &tempfile::TempDir, records: usize) -> (Place, Chain, SigningKey) {
    let place = Place::new(directory.path());
    let (key, is_new) = SigningKey::load_or_make(&place).unwrap();
    assert!(is_new);
    let mut chain = Chain::open(&place, None).unwrap().0;
    chain.append(&entries(records - 1)).unwrap();
    chain.checkpoint(5, &key).unwrap();
    chain.checkpoint(records as u64, &key).unwrap();
    (place, chain, key)
}

fn verify(place: &Place, anchors: Vec<Anchor>) -> Vec<(u64, &'static str)> {
    let keys = PublicKeys::read(place).unwrap();
    let checked = Verifier { keys, anchors }.verify(&reader(&place.database).unwrap()).unwrap();
    checked.faults.iter().map(|fault| (fault.seq, fault.code)).collect()
}

/// Whoever owns the file is not held up by what holds up mistakes.
fn tamper(place: &Place, statements: &str) {
    let connection = Connection::open(&place.database).unwrap();
    connection.execute_batch("DROP TRIGGER record_is_final; DROP TRIGGER record_is_kept").unwrap();
    connection.execute_batch(statements).unwrap();
}

/// Rewrites a record as somebody would who knows how the chain is made, from there to the end if they like.
fn forge(place: &Place, seq: u64, all: bool) {
    tamper(place, "");
    let connection = Connection::open(&place.database).unwrap();
    let mut prev = None;
    let mut lines = Vec::new();
    each_record(&connection, seq, u64::MAX, |seq, line, _| lines.push((seq, line.to_owned())))
        .unwrap();
    for (number, line) in lines {
        let mut record: Record = serde_json::from_str(&line).unwrap();
        if number == seq {
            record.entry.to = Some("denied".to_owned());
        }
        let prev_hash = prev.take().unwrap_or_else(|| record.prev.clone());
        let (line, hash) = Record::line(number, record.at, &prev_hash, record.entry);
        connection
            .execute(
                "UPDATE record SET line = ?1, hash = ?2 WHERE seq = ?3",
                (line, &hash, number as i64),
            )
            .unwrap();
        prev = Some(hash);
        if !all {
            return;
        }
    }
}

#[test]
fn what_was_changed_is_named() {
    type Tampering = fn(&Place);
    type Expected<'a> = &'a [(u64, &'a str)];
    let cases: [(&str, Tampering, Expected<'_>); 12] = [
        ("nothing", |_| {}, &[]),
        (
            "a text",
            |place| {
                tamper(
                    place,
                    "UPDATE record SET line = replace(line, 'approved', 'denied') WHERE seq = 7",
                );
            },
            &[(7, "changed")],
        ),
        (
            "a hash",
            |place| tamper(place, "UPDATE record SET hash = replace(hash, 'a', 'b') WHERE seq = 7"),
            &[(7, "changed")],
        ),
        ("both", |place| forge(place, 7, false), &[(7, "replaced")]),
        ("from there on", |place| forge(place, 7, true), &[(12, "checkpoint-differs")]),
        (
            "one is gone",
            |place| tamper(place, "DELETE FROM record WHERE seq = 7"),
            &[(7, "missing")],
        ),
        (
            "the last are gone",
            |place| tamper(place, "DELETE FROM record WHERE seq > 9"),
            &[(10, "truncated")],
        ),
        (
            "the first are gone",
            |place| tamper(place, "DELETE FROM record WHERE seq < 4"),
            &[(1, "missing")],
        ),
        (
            "two have changed places",
            |place| {
                tamper(
                    place,
                    "UPDATE record SET seq = -1 WHERE seq = 7; UPDATE record SET seq = 7 WHERE seq = 8;
                     UPDATE record SET seq = 8 WHERE seq = -1",
                );
            },
            &[
                (7, "unreadable"),
                (6, "replaced"),
                (8, "unreadable"),
                (7, "replaced"),
                (8, "replaced"),
            ],
        ),
        (
            "a checkpoint",
            |place| {
                tamper(
                    place,
                    "UPDATE checkpoint SET text = replace(text, ':5,', ':6,') WHERE seq = 5",
                );
            },
            &[(5, "checkpoint-unsigned")],
        ),
        (
            "a checkpoint is moved",
            |place| tamper(place, "UPDATE checkpoint SET seq = 4 WHERE seq = 5"),
            &[(4, "checkpoint-foreign")],
        ),
        ("all of it", |place| tamper(place, "DELETE FROM record"), &[(1, "missing")]),
    ];
    for (name, tampering, expect) in cases {
        let directory = tempfile::tempdir().unwrap();
        let (place, chain, _) = chain(&directory, 12);
        drop(chain);
        tampering(&place);
        assert_eq!(verify(&place, Vec::new()), expect, "{name}");
    }
}

#[test]
fn an_anchor_tells_of_a_chain_that_was_begun_anew_or_cut() {
    let directory = tempfile::tempdir().unwrap();
    let (place, mut chain, key) = chain(&directory, 12);
    let head = chain.head().unwrap().unwrap();
    let (text, signature) = sign(&head, &key).unwrap();
    assert!(PublicKeys::read(&place).unwrap().have_signed(&text, &signature));
    let json = format!("{{\"head\":{text},\"signature\":null}}");
    let short = format!("{}:{}", head.seq, head.hash);
    let anchors: Vec<Anchor> = [&json, &text, &short].map(|text| text.parse().unwrap()).to_vec();
    chain.append(&entries(3)).unwrap();
    assert_eq!(verify(&place, anchors.clone()), []);
    drop(chain);
    // Whoever has the key too signs what they have rewritten.
    forge(&place, 7, true);
    tamper_checkpoints(&place, &key);
    assert_eq!(verify(&place, Vec::new()), []);
    assert_eq!(verify(&place, anchors.clone()), [(12, "anchor-differs"); 3]);
    let connection = Connection::open(&place.database).unwrap();
    connection
        .execute_batch("DELETE FROM record WHERE seq > 8; DELETE FROM checkpoint WHERE seq > 8")
        .unwrap();
    drop(connection);
    assert_eq!(verify(&place, anchors.clone()), [(9, "truncated"); 3]);
    for name in ["audit.db", "audit.db-wal", "audit.db-shm"] {
        let _ = fs::remove_file(directory.path().join(name));
    }
    drop(Chain::open(&place, None).unwrap());
    let expect = [(12, "another-chain"), (12, "another-chain"), (2, "truncated")];
    assert_eq!(verify(&place, anchors), expect);
    for wrong in ["", "7", "x:y", "7:abc", "{}", "{\"head\":{\"seq\":7}}"] {
        assert!(wrong.parse::<Anchor>().unwrap_err().contains("expected SEQ:HASH"), "{wrong}");
    }
}

fn tamper_checkpoints(place: &Place, key: &SigningKey) {
    Connection::open(&place.database).unwrap().execute_batch("DELETE FROM checkpoint").unwrap();
    let mut chain = Chain::open(place, None).unwrap().0;
    for seq in [5, 12] {
        chain.checkpoint(seq, key).unwrap();
    }
}

#[test]
fn mistakes_are_refused_by_the_database_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (place, mut chain, _) = chain(&directory, 8);
    chain.append(&entries(1)).unwrap();
    let connection = Connection::open(&place.database).unwrap();
    for statement in
        ["UPDATE record SET hash = '' WHERE seq = 2", "DELETE FROM record WHERE seq = 9"]
    {
        let error = connection.execute_batch(statement).unwrap_err().to_string();
        assert!(
            error.contains("only appended") || error.contains("no signed checkpoint"),
            "{error}"
        );
    }
}

#[test]
fn a_line_is_verified_without_us_and_acts_on_no_terminal() {
    let (line, hash) = Record::line(7, Timestamp::UNIX_EPOCH, line::NOTHING, entry(1));
    let exported = with_hash(&line, &hash);
    assert!(exported.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{exported}");
    let value: serde_json::Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(value["subject"]["name"], HOSTILE);
    assert_eq!(value["hash"], hash.as_str());
    // As docs/audit.md says.
    let hashed = format!("{}}}", &exported[..exported.len() - 75]);
    assert_eq!(hashed, line);
    assert_eq!(line::hash(&hashed), hash);
}

#[test]
fn a_record_is_bounded() {
    let long = "\u{202e}".repeat(1 << 20);
    let many = vec![long.clone(); 1000];
    let person = Person {
        via: Via::Api,
        uid: 0,
        gid: 0,
        user: None,
        pid: 1,
        command: Some(long.clone()),
        login_uid: None,
        login_user: None,
        on_behalf: None,
    };
    let entry = Entry::new(Kind::ActionAsked, Who::Person(person))
        .on(Subject::new("vm", long.clone()).named(long.clone()))
        .change(Some(long.clone()), long.clone())
        .why(long)
        .because("rules", many);
    let (line, _) = Record::line(1, Timestamp::UNIX_EPOCH, line::NOTHING, entry);
    assert!(line.len() < 64 << 10, "{} bytes", line.len());
    assert!(line.contains("and 984 more"));
}

#[test]
fn what_is_pruned_can_still_be_verified() {
    let directory = tempfile::tempdir().unwrap();
    let (place, mut chain, key) = chain(&directory, 4000);
    let size = chain.size().unwrap();
    let limits = Limits { retention: Duration::ZERO, size: size / 2 };
    assert_eq!(chain.prune(Limits { size: size * 2, ..limits }, &key).unwrap(), None);
    let cut = chain.prune(limits, &key).unwrap().unwrap();
    assert!((1500..3000).contains(&cut), "{cut}");
    assert!(chain.size().unwrap() < size / 2);
    assert_eq!(verify(&place, Vec::new()), []);
    // An anchor from where nothing is left cannot be compared, one that is at the cut can.
    let first = record(&chain.connection, cut + 1).unwrap().unwrap().0;
    let prev = serde_json::from_str::<Record>(&first).unwrap().prev;
    let anchor = |seq| vec![Anchor { chain: None, seq, hash: prev.clone() }];
    assert_eq!(verify(&place, anchor(cut)), []);
    assert_eq!(verify(&place, anchor(cut - 1)), [(cut - 1, "anchor-pruned")]);
    // A checkpoint that is gone takes the proof with it.
    drop(chain);
    tamper(&place, "DELETE FROM checkpoint WHERE seq < 4000");
    assert_eq!(verify(&place, Vec::new()), [(1, "missing")]);
}

#[test]
fn what_is_too_old_goes_and_what_was_changed_is_said_before() {
    let directory = tempfile::tempdir().unwrap();
    let (place, mut chain, key) = chain(&directory, 10);
    let day = Duration::from_secs(24 * 60 * 60);
    let old = Timestamp::now().checked_sub(3 * day).unwrap();
    let aged: Vec<_> = (0..500).map(|number| (old, entry(number))).collect();
    chain.append(&aged).unwrap();
    chain.append(&entries(1200)).unwrap();
    let limits = Limits { retention: 2 * day, size: u64::MAX };
    assert_eq!(chain.prune(limits, &key).unwrap(), None, "the first ones are young");
    drop(chain);
    let aged = old.to_string();
    tamper(
        &place,
        &format!("UPDATE record SET line = json_set(line, '$.at', '{aged}') WHERE seq < 11"),
    );
    let mut chain = Chain::open(&place, None).unwrap().0;
    let cut = chain.prune(limits, &key).unwrap().unwrap();
    assert_eq!(cut, 510);
    let last = chain.head().unwrap().unwrap().seq;
    let pruned = record(&chain.connection, last).unwrap().unwrap().0;
    assert!(pruned.contains("record 1 is not what was written"), "{pruned}");
    // Nothing young or late goes, whatever the clock says.
    let limits = Limits { retention: Duration::from_nanos(1), size: u64::MAX };
    let cut = chain.prune(limits, &key).unwrap().unwrap();
    assert_eq!(cut, last - 1000);
}

#[test]
fn several_processes_write_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let (place, chain, _) = chain(&directory, 8);
    drop(chain);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let place = place.clone();
            scope.spawn(move || {
                for _ in 0..20 {
                    assert!(aside::record(&place, &entry(1)).unwrap().is_some());
                }
            });
        }
    });
    assert_eq!(verify(&place, Vec::new()), []);
    assert_eq!(Chain::open(&place, None).unwrap().0.head().unwrap().unwrap().seq, 88);
}

#[test]
fn a_key_that_is_none_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    fs::write(&place.key, "no key").unwrap();
    let error = SigningKey::load_or_make(&place).err().unwrap().to_string();
    assert!(error.contains("audit.key: it is no secret key"), "{error}");
    assert_eq!(fs::read_to_string(&place.key).unwrap(), "no key");
}

/// A writer, and what it has told last.
fn writer(place: &Place) -> (Writer, Arc<Mutex<Trouble>>) {
    let told = Arc::new(Mutex::new(Trouble::new()));
    let to = Arc::clone(&told);
    let limits = Limits { retention: Duration::ZERO, size: u64::MAX };
    let writer = Writer::spawn(place.clone(), limits, move |trouble| *to.lock().unwrap() = trouble);
    (writer.unwrap(), told)
}

fn kinds(place: &Place) -> Vec<String> {
    let mut kinds = Vec::new();
    each_record(&reader(&place.database).unwrap(), 1, u64::MAX, |_, line, _| {
        kinds.push(serde_json::from_str::<Record>(line).unwrap().entry.kind.name());
    })
    .unwrap();
    kinds
}

#[tokio::test]
async fn what_cannot_be_written_is_kept_and_what_must_not_be_lost_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let place = Place::new(&state);
    let (writer, told) = writer(&place);
    let now = Timestamp::now();
    writer.decision(now, entry(1));
    let refused = writer.action(now, entry(2), false).await.unwrap_err();
    assert!(refused.contains("state/audit.db"), "{refused}");
    let Ok(Asked::Kept(ticket)) = writer.action(now, entry(3), true).await else { panic!() };
    writer.outcome(now, entry(33), Asked::Kept(ticket)).await;
    assert!(told.lock().unwrap()["unwritable"].contains("No such file"));
    fs::create_dir(&state).unwrap();
    // The first of them, the key, what was kept, and this one.
    assert_eq!(writer.action(now, entry(4), false).await, Ok(Asked::Written(6)));
    assert_eq!(kinds(&place), ["chain-begun", "key", "vm", "vm", "vm", "vm"]);
    let of = |seq| {
        let line = record(&reader(&place.database).unwrap(), seq).unwrap().unwrap().0;
        serde_json::from_str::<Record>(&line).unwrap().entry.of
    };
    assert_eq!((of(4), of(5)), (None, Some(4)), "it names what was asked for");
    let Asked::Written(seq) = writer.action(now, entry(6), false).await.unwrap() else { panic!() };
    writer.outcome(now, entry(7), Asked::Written(seq)).await;
    assert_eq!(of(seq + 1), Some(seq));
    writer.end(now, entry(5)).await;
    assert_eq!(*told.lock().unwrap(), Trouble::new());
    assert_eq!(verify(&place, Vec::new()), []);
}

#[tokio::test]
async fn what_is_done_to_the_file_meanwhile_is_on_record() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let (writer, told) = writer(&place);
    let now = Timestamp::now();
    writer.action(now, entry(1), false).await.unwrap();
    // Others may append.
    aside::record(&place, &entry(2)).unwrap();
    writer.action(now, entry(3), false).await.unwrap();
    assert!(told.lock().unwrap().is_empty());
    tamper(&place, "DELETE FROM record WHERE seq > 3");
    writer.action(now, entry(4), false).await.unwrap();
    assert!(kinds(&place).ends_with(&["chain-broken".to_owned(), "vm".to_owned()]));
    // It is told of after whoever waits has their answer.
    let begun = Instant::now();
    while !told.lock().unwrap().contains_key("broken") {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody is told");
        tokio::task::yield_now().await;
    }
    for name in ["audit.db", "audit.db-wal", "audit.db-shm"] {
        let _ = fs::remove_file(directory.path().join(name));
    }
    writer.action(now, entry(5), false).await.unwrap();
    let first = record(&reader(&place.database).unwrap(), 1).unwrap().unwrap().0;
    assert!(first.contains("the audit of before is gone"), "{first}");
    assert!(first.contains("last-known-head") && first.contains("\\\"seq\\\":5"), "{first}");
    assert_eq!(verify(&place, Vec::new()), []);
}

#[tokio::test]
async fn what_was_done_without_the_daemon_is_taken_in_once() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    // A newer build's: nobody here may write to it.
    let newer = Connection::open(&place.database).unwrap();
    newer
        .execute_batch(
            "PRAGMA application_id = 0x64657441; PRAGMA user_version = 99; CREATE TABLE t (x)",
        )
        .unwrap();
    drop(newer);
    assert_eq!(aside::record(&place, &entry(1)), Ok(None));
    assert_eq!(aside::record(&place, &entry(2)), Ok(None));
    let spool = fs::read(&place.spool).unwrap();
    fs::remove_file(&place.database).unwrap();
    for _ in 0..2 {
        // A crash between the two leaves the file.
        fs::write(&place.spool, [&spool[..], b"no record\n"].concat()).unwrap();
        let (writer, _) = writer(&place);
        writer.action(Timestamp::now(), entry(3), false).await.unwrap();
        assert!(!place.spool.exists());
    }
    assert_eq!(kinds(&place), ["chain-begun", "key", "vm", "vm", "vm", "vm"]);
}

#[tokio::test]
async fn what_comes_too_fast_is_counted_and_the_number_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let place = Place::new(&state);
    let (writer, told) = writer(&place);
    let now = Timestamp::now();
    for number in 0..20_000 {
        writer.decision(now, entry(number));
    }
    // It never waits; what comes is either written, once it can be, or counted.
    assert!(matches!(writer.action(now, entry(0), true).await, Ok(Asked::Kept(_))));
    fs::create_dir(&state).unwrap();
    writer.action(now, entry(0), false).await.unwrap();
    let kinds = kinds(&place);
    let written = kinds.iter().filter(|kind| *kind == "vm").count() - 2;
    let mut lost = 0;
    each_record(&reader(&place.database).unwrap(), 1, u64::MAX, |_, line, _| {
        let record: Record = serde_json::from_str(line).unwrap();
        if record.entry.kind == Kind::RecordsLost {
            lost += record.entry.to.unwrap().parse::<usize>().unwrap();
        }
    })
    .unwrap();
    assert!(lost > 0);
    assert_eq!(written + lost, 20_000);
    assert!(told.lock().unwrap().contains_key("lost"));
    assert_eq!(verify(&place, Vec::new()), []);
}

/// What has to be there in the end waits for that, and is there once.
#[tokio::test]
async fn who_has_to_know_waits_until_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let place = Place::new(&state);
    let (writer, told) = writer(&place);
    let settled = tokio::spawn({
        let writer = writer.clone();
        async move { writer.settled(Timestamp::now(), entry(1)).await }
    });
    while !told.lock().unwrap().contains_key("unwritable") {
        tokio::task::yield_now().await;
    }
    // It was tried with the first one, and fails again and again.
    writer.action(Timestamp::now(), entry(2), false).await.unwrap_err();
    assert!(!settled.is_finished());
    fs::create_dir(&state).unwrap();
    assert!(settled.await.unwrap());
    assert_eq!(kinds(&place), ["chain-begun", "key", "vm"]);
}

/// From the time on from which they can be there; a name is all of a text, and of its own evidence.
#[test]
fn what_is_on_record_is_found_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (place, mut chain, _) = chain(&directory, 1);
    let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
    let named = |evidence: &str, name: &str| entry(1).because(evidence, [name]);
    let entries = [
        (at(0), named("event", "old")),
        (at(10_000), named("event", "a/12")),
        // One that was kept for a moment comes behind those that were made after it.
        (at(9_000), named("event", "late")),
        (at(10_001), named("rules", "a/1")),
    ];
    chain.append(&entries).unwrap();
    let found = |since: i64| {
        let texts = ["old", "a/1", "a/12", "late", "none"].map(str::to_owned).into();
        let connection = reader(&place.database).unwrap();
        mentioned(&connection, "event", at(since), &texts).unwrap().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(found(0), ["a/12", "late", "old"]);
    assert_eq!(found(10_000), ["a/12", "late"]);
}
