//! What the chain proves, and to whom.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;

use detector::api::{Reply, Request, schema::TargetSpec};
use detector_tests::daemon::Settings;
use rusqlite::Connection;

use super::*;

fn add(number: u64) -> Request {
    let mac = format!("02:00:00:00:{:02x}:{:02x}", number >> 8, number & 0xff);
    Request::QuarantineAdd { target: TargetSpec::Mac(mac), reason: "x".repeat(500), mode: None }
}

/// A copy that somebody has had at.
fn tampered(scene: &Scene, name: &str, statements: &str) -> String {
    let path = scene.host().path(name);
    std::fs::copy(database(scene), &path).unwrap();
    let copy = Connection::open(&path).unwrap();
    copy.execute_batch("DROP TRIGGER record_is_final; DROP TRIGGER record_is_kept").unwrap();
    copy.execute_batch(statements).unwrap();
    path.display().to_string()
}

#[test]
fn what_was_changed_is_named_and_what_was_cut_is_told_by_an_anchor() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    said(&daemon, &["quarantine", "add", "mac", "52:54:00:00:00:77", "--reason", "x"]);
    let head = said(&daemon, &["audit", "head"]);
    let anchor = scene.host().path("anchor.json").display().to_string();
    std::fs::write(&anchor, head.to_string()).unwrap();
    let seq = head["head"]["seq"].as_u64().unwrap();
    assert!(seq > 5, "{head}");
    daemon.kill().unwrap();
    // What is written ahead comes into the file that is copied.
    let whole = Connection::open(database(&scene)).unwrap();
    whole.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(whole);

    let changed = "UPDATE record SET line = replace(line, '\"uid\":0', '\"uid\":7') WHERE seq = ";
    let asked = action(&daemon, "quarantine-add").0["seq"].as_u64().unwrap();
    let cut = "DELETE FROM record WHERE seq >= ";
    let cases = [
        ("whole.db", String::new(), None),
        ("changed.db", format!("{changed}{asked}"), Some(("changed", asked))),
        // No checkpoint stands for the end yet.
        (
            "cut.db",
            format!("{cut}{seq}; DELETE FROM checkpoint WHERE seq >= {seq}"),
            Some(("truncated", seq)),
        ),
    ];
    for (name, statements, expect) in cases {
        let copy = tampered(&scene, name, &statements);
        let answer =
            daemon.ask(&["audit", "verify", "--database", &copy, "--anchor", &anchor]).unwrap();
        assert_eq!(answer.code, if expect.is_some() { 3 } else { 0 }, "{name}: {answer:?}");
        let first = &answer.json["faults"][0];
        let found = first["code"].as_str().map(|code| (code, first["seq"].as_u64().unwrap()));
        assert_eq!(found, expect, "{name}: {answer:?}");
        if name == "cut.db" {
            let unaware = daemon.ask(&["audit", "verify", "--database", &copy]).unwrap();
            assert_eq!(unaware.code, 0, "only the anchor knows: {unaware:?}");
            let shown = daemon
                .show(&["audit", "verify", "--database", &copy, "--anchor", &anchor])
                .unwrap();
            assert!(shown.contains(&format!("records {seq} to {seq} are missing")), "{shown}");
        }
    }
}

/// As docs/audit.md says, with nothing of ours.
#[test]
fn whoever_does_not_trust_us_verifies_it_too() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    said(&daemon, &["quarantine", "add", "mac", "52:54:00:00:00:77", "--reason", REASON]);
    let exported = daemon.show(&["audit", "export"]).unwrap();
    assert!(exported.is_ascii() && exported.contains("\"checkpoint\""), "{exported}");
    let file = scene.host().path("audit.jsonl");
    let script = scene.host().path("verify.py");
    let docs = include_str!("../../../docs/audit.md");
    let text = docs.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    std::fs::write(&script, text).unwrap();
    let verify = |exported: &str| {
        std::fs::write(&file, exported).unwrap();
        let mut python = Command::new("python3");
        python.arg(&script).arg(&file).current_dir(scene.host().directory());
        scene.host().output(&mut python).unwrap()
    };
    let fine = verify(&exported);
    assert!(fine.status.success(), "{fine:?}");
    let wrong = verify(&exported.replacen("\"uid\":0", "\"uid\":7", 1));
    let complaint = String::from_utf8_lossy(&wrong.stdout).into_owned();
    assert!(
        !wrong.status.success() && complaint.contains("is not what was written"),
        "{complaint}"
    );
    let head = said(&daemon, &["audit", "head"]);
    let place = scene.host().path("head");
    std::fs::write(&place, head["text"].as_str().unwrap()).unwrap();
    let signature = head["signature"].as_str().unwrap();
    std::fs::write(place.with_extension("minisig"), signature).unwrap();
    let mut minisign = Command::new("minisign");
    minisign.arg("-Vm").arg(&place).args(["-P", head["key"].as_str().unwrap()]);
    scene.host().check(&mut minisign).unwrap();
}

#[test]
fn what_is_too_much_goes_and_the_rest_still_verifies() {
    let scene = Scene::new().unwrap();
    let settings = Settings {
        inventory: inventory().concat(),
        more: "[audit]\nmax_megabytes = 1\n".to_owned(),
        ..Settings::default()
    };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let mut client = daemon.client().unwrap();
    let mut number = 0;
    wait::until("the first records to go", PATIENCE * 4, || {
        client.call(add(number))?;
        number += 1;
        let first = || -> anyhow::Result<Option<u64>> {
            let answer = daemon.ask(&["audit", "verify"])?;
            assert_eq!(answer.code, 0, "{answer:?}");
            Ok(answer.json["first"].as_u64().filter(|first| *first > 1))
        };
        if number % 100 == 0 { first() } else { Ok(None) }
    })
    .unwrap();
    let bytes = std::fs::metadata(database(&scene)).unwrap().len();
    assert!(bytes < 2 << 20, "{bytes} bytes");
    let pruned = records(&daemon).into_iter().find(|record| record["kind"] == "pruned").unwrap();
    assert!(pruned["to"].as_str().unwrap().parse::<u64>().unwrap() > 100, "{pruned}");
}

/// Whatever was answered is on record, wherever it is killed.
#[test]
fn killed_in_the_middle_of_writing_it_stays_whole() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let answered = Mutex::new(BTreeSet::new());
    let mut number = 0;
    for round in 1..=5 {
        let mut client = daemon.client().unwrap();
        let first = number;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut number = first;
                while let Ok(Reply::Quarantine(view)) = client.call(add(number)) {
                    answered.lock().unwrap().insert(view.name);
                    number += 1;
                }
                number + 1
            });
            let enough = || answered.lock().unwrap().len() >= round * 7;
            wait::until("some to be answered", PATIENCE, || Ok(enough().then_some(()))).unwrap();
            daemon.kill().unwrap();
            number = writer.join().unwrap();
        });
        assert_verifies(&daemon);
        let records = records(&daemon);
        let done = |name: &str| {
            let of = |kind: &str, record: &Value| {
                record["kind"] == kind && record["subject"]["id"] == name
            };
            ["action-asked", "action-done"]
                .iter()
                .all(|kind| records.iter().any(|record| of(kind, record)))
        };
        for name in answered.lock().unwrap().iter() {
            assert!(done(name), "{name} was answered and is not on record");
        }
        daemon.run().unwrap();
    }
    assert_verifies(&daemon);
    assert!(!records(&daemon).iter().any(|record| record["kind"] == "chain-broken"));
}
