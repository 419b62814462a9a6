use detector_core::{
    model::Timestamp,
    remediate::{By, Means, Outcome, Step, Ways, plan},
};

use super::*;

fn workflow(number: u8) -> Workflow {
    let outcome = Outcome::Patched { provisioner: None };
    let means = Means::default();
    let ways = Ways { guarded: true, unguarded: false, placed: true };
    let plan = plan(&outcome, &means, ways).unwrap();
    let by = By { uid: 0, at: Timestamp(1), why: "a test".to_owned() };
    let vm = Uuid::from_bytes([number; 16]);
    Workflow::start((vm, "web\u{1b}[2J'; DROP"), outcome, plan, by, 1, None, None).unwrap()
}

fn keep(store: &mut Store, workflow: &Workflow) -> Result<(), String> {
    store.keep(workflow, jiff::Timestamp::UNIX_EPOCH, Vec::new()).map(drop)
}

/// As one step with the workflow, and until somebody says that they are in the audit.
#[test]
fn records_are_owed_until_they_are_paid() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(directory.path());
    let record = |why: &str| Entry::new(Kind::Remediation, Who::Daemon).why(why);
    let at = jiff::Timestamp::UNIX_EPOCH;
    let records = ["one", "two"].map(record).to_vec();
    assert_eq!(store.keep(&workflow(1), at, records), Ok(0));
    let kept = store.owed().unwrap();
    store.forget(Uuid::from_bytes([1; 16])).unwrap();
    let (mut store, _) = Store::open(directory.path());
    assert_eq!(store.owed().unwrap(), kept);
    store.paid(kept[0].number).unwrap();
    assert_eq!(store.owed().unwrap(), kept[1..]);
    store.keep(&workflow(1), at, vec![record("three")]).unwrap();
    let whys: Vec<_> = store.owed().unwrap().into_iter().map(|one| one.entry.why).collect();
    assert_eq!(whys, ["two", "three"]);
}

/// One too many: the oldest goes, and that is on record.
#[test]
fn records_that_are_dropped_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(directory.path());
    let record = |number: i64| Entry::new(Kind::Remediation, Who::Daemon).why(number.to_string());
    let at = jiff::Timestamp::UNIX_EPOCH;
    let keep = |store: &mut Store, numbers: std::ops::Range<i64>| {
        store.keep(&workflow(1), at, numbers.map(record).collect()).unwrap()
    };
    // Numbers that are no longer used count for nothing.
    keep(&mut store, 0..10);
    let first = store.owed().unwrap();
    first.iter().for_each(|one| store.paid(one.number).unwrap());
    assert_eq!(keep(&mut store, 0..MOST_OWED), 0);
    assert_eq!(keep(&mut store, MOST_OWED..MOST_OWED + 1), 1);
    let (mut store, _) = Store::open(directory.path());
    assert_eq!(store.dropped(), Ok(1));
    let owed = store.owed().unwrap();
    assert_eq!((owed.len(), owed[0].entry.why.as_str()), (4097, "1"));
    let lost = &owed[4096].entry;
    assert_eq!((lost.kind, lost.to.as_deref()), (Kind::RecordsLost, Some("1")));
    assert!(!lost.evidence[EVENT].is_empty());
    assert_eq!((store.dropped(), store.owed().unwrap()), (Ok(0), owed.clone()), "said once");

    // What had been on its way when it was dropped has come there.
    assert_eq!(keep(&mut store, 0..2), 3);
    store.paid(owed[0].number).unwrap();
    assert_eq!(store.dropped(), Ok(2));
}

#[test]
fn what_is_written_down_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, recalled) = Store::open(directory.path());
    assert_eq!(recalled, Recalled::default());
    let (mut first, second) = (workflow(1), workflow(2));
    keep(&mut store, &first).unwrap();
    keep(&mut store, &second).unwrap();
    first.begin(Step::Quarantine, Timestamp(2)).unwrap();
    keep(&mut store, &first).unwrap();
    let (mut store, recalled) = Store::open(directory.path());
    assert_eq!(recalled.workflows, [first, second.clone()]);
    store.forget(Uuid::from_bytes([1; 16])).unwrap();
    assert_eq!(Store::open(directory.path()).1.workflows, [second]);
}

#[test]
fn a_damaged_file_is_set_aside_and_known_to_be() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 3] = [
        ("garbage", |path| fs::write(path, "x".repeat(9_000)).unwrap()),
        ("another shape", |path| {
            let connection = Connection::open(path).unwrap();
            connection.execute("UPDATE workflow SET state = '{}'", []).unwrap();
        }),
        ("no JSON", |path| {
            let connection = Connection::open(path).unwrap();
            connection.execute("UPDATE step SET state = 'x'", []).unwrap();
        }),
    ];
    for (name, damage) in cases {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(directory.path());
        keep(&mut store, &workflow(1)).unwrap();
        drop(store);
        damage(&directory.path().join(NAME));
        let (mut store, recalled) = Store::open(directory.path());
        assert!(recalled.workflows.is_empty() && recalled.lost.is_some(), "{name}");
        keep(&mut store, &workflow(2)).unwrap();
        drop(store);
        // Also after the next start, until somebody has moved it away.
        let (store, recalled) = Store::open(directory.path());
        assert_eq!(recalled.workflows.len(), 1, "{name}");
        let lost = recalled.lost.expect("what was lost is still lost");
        assert!(lost.contains("was damaged"), "{name}: {lost}");
        fs::remove_file(store.damaged().unwrap()).unwrap();
        assert_eq!(Store::open(directory.path()).1.lost, None, "{name}");
    }
}

#[test]
fn a_disk_that_fails_is_told_of_and_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(directory.path());
    let path = directory.path().join(NAME);
    store.connection = None;
    fs::rename(&path, directory.path().join("away")).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(keep(&mut store, &workflow(1)).unwrap_err().contains(NAME));
    fs::remove_dir(&path).unwrap();
    keep(&mut store, &workflow(1)).unwrap();
}
