use std::{collections::BTreeSet, ops::ControlFlow, sync::atomic::AtomicUsize};

use detector_core::{
    model,
    remediate::{By, Deed, Means, Outcome, Step, Ways, plan},
};

use super::*;
use crate::{
    audit::{self, Kind, Limits, Place, Who, Writer, each_record},
    remediate::{EVENT, hands::Hear},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Hands that are at it until they are told to stop.
#[derive(Default)]
struct Slow {
    begun: AtomicUsize,
}

impl Hands for Slow {
    fn can(&self, _: Deed) -> Result<(), String> {
        Ok(())
    }

    fn carry_out(&self, _: &Patient, _: &Order, hear: &mut Hear<'_>) -> Result<Done, Failed> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + PATIENCE;
        while hear(Progress::default()) == ControlFlow::Continue(()) && Instant::now() < until {
            thread::park_timeout(Duration::from_millis(10));
        }
        Err(Failed::Stopped)
    }
}

fn audit(state: &std::path::Path) -> (Writer, Place) {
    let place = Place::new(state);
    let limits = Limits { retention: Duration::ZERO, size: 1 << 30 };
    (Writer::spawn(place.clone(), limits, |_| {}).unwrap(), place)
}

fn workflow() -> Workflow {
    let outcome = Outcome::Patched { provisioner: None };
    let ways = Ways { guarded: true, unguarded: false, placed: true };
    let plan = plan(&outcome, &Means::default(), ways).unwrap();
    let by = By { uid: 0, at: model::Timestamp(1), why: "a test".to_owned() };
    Workflow::start((Uuid::from_u128(1), "web"), outcome, plan, by, 1, None, None).unwrap()
}

fn record(number: u32) -> Entry {
    Entry::new(Kind::Remediation, Who::Daemon).because(EVENT, [format!("vm/1/{number}")])
}

/// Records of remediations, as the audit has them.
fn recorded(place: &Place) -> Vec<String> {
    let mut found = Vec::new();
    let chain = audit::reader(&place.database).unwrap();
    each_record(&chain, 0, 1000, |_, line, _| {
        let of = |name: &str| line.contains(&format!("\"vm/1/{name}\""));
        found.extend(["1", "2", "12"].into_iter().filter(|name| of(name)).map(str::to_owned));
    })
    .unwrap();
    found
}

fn await_paid(state: &std::path::Path) {
    let until = Instant::now() + PATIENCE;
    let mut looks = Store::open(state).0;
    while !looks.owed().unwrap().is_empty() && Instant::now() < until {
        thread::park_timeout(Duration::from_millis(10));
    }
    assert_eq!(looks.owed().unwrap(), []);
}

/// An audit that refuses the second record that it is given, once.
#[derive(Clone)]
struct Refusing(Arc<Refused>);

#[derive(Default)]
struct Refused {
    /// Whether it has the one that it has refused all the same.
    keeps: bool,
    asked: AtomicUsize,
    passes: AtomicUsize,
    records: Mutex<Vec<String>>,
}

impl Book for Refusing {
    async fn settled(&self, _: Timestamp, entry: Entry) -> bool {
        let refuses = self.0.asked.fetch_add(1, Ordering::Relaxed) == 1;
        if !refuses || self.0.keeps {
            self.0.records.lock().unwrap().push(entry.evidence[EVENT][0].clone());
        }
        !refuses
    }

    fn recorded(&self, _: Timestamp, events: &BTreeSet<String>) -> BTreeSet<String> {
        self.0.passes.fetch_add(1, Ordering::Relaxed);
        let records = self.0.records.lock().unwrap();
        records.iter().filter(|event| events.contains(*event)).cloned().collect()
    }
}

/// What has failed is not forgotten, and looked for once however much it is: the audit may have it.
#[test]
fn what_the_audit_refuses_is_tried_again() {
    for (keeps, before) in [(false, 0), (true, 0), (false, 40), (true, 40)] {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (mut store, _) = Store::open(directory.path());
        let records = |numbers: std::ops::Range<u32>| numbers.map(record).collect();
        store.keep(&workflow(), Timestamp::now(), records(0..before)).unwrap();
        let book = Refusing(Arc::new(Refused { keeps, ..Refused::default() }));
        let (inputs, _told) = mpsc::channel(1024);
        let hands: Arc<dyn Hands> = Arc::new(Slow::default());
        let handle = runtime.handle().clone();
        let quick = (book.clone(), Duration::from_millis(50));
        let remedies = Remedies::start(store, hands, quick, inputs, handle).unwrap();
        if before == 0 {
            remedies.keep(Box::new(workflow()), Timestamp::now(), records(0..40));
            let until = Instant::now() + PATIENCE;
            while book.0.asked.load(Ordering::Relaxed) == 0 && Instant::now() < until {
                thread::park_timeout(Duration::from_millis(10));
            }
        }
        await_paid(directory.path());
        let expected: Vec<_> = (0..40).map(|number| format!("vm/1/{number}")).collect();
        let case = format!("kept: {keeps}, before: {before}");
        assert_eq!(*book.0.records.lock().unwrap(), expected, "{case}");
        let passes = book.0.passes.load(Ordering::Relaxed);
        assert!((1..=2).contains(&passes), "{case}: one at the start, one later: {passes}");
    }
}

/// A daemon that ended after a workflow was on the disk, and before its records were in the audit.
#[test]
fn what_the_audit_is_owed_is_there_after_the_next_start_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut store, _) = Store::open(directory.path());
    let at = Timestamp::now();
    store.keep(&workflow(), at, [1, 2, 12].map(record).to_vec()).unwrap();
    let kept = store.owed().unwrap();
    // The one that was on its way had come there, and nobody had said so yet.
    let (writer, place) = audit(directory.path());
    assert!(runtime.block_on(writer.settled(at, kept[2].entry.clone())));
    for _ in 0..2 {
        let (inputs, _told) = mpsc::channel(1024);
        let hands: Arc<dyn Hands> = Arc::new(Slow::default());
        let (store, _) = Store::open(directory.path());
        let handle = runtime.handle().clone();
        let audit = Audit { writer: writer.clone(), place: place.clone() };
        let _remedies = Remedies::start(store, hands, (audit, RETRY), inputs, handle).unwrap();
        await_paid(directory.path());
        assert_eq!(recorded(&place), ["12", "1", "2"]);
    }
}

/// What waits for a place while it is told to stop is not begun when there is one.
#[test]
fn what_is_stopped_before_it_has_a_place_does_not_begin() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hands = Arc::new(Slow::default());
    let (inputs, mut told) = mpsc::channel(1024);
    let store = Store::open(directory.path()).0;
    let asked: Arc<dyn Hands> = Arc::<Slow>::clone(&hands);
    let (writer, place) = audit(directory.path());
    let audit = (Audit { writer, place }, RETRY);
    let remedies = Remedies::start(store, asked, audit, inputs, runtime.handle().clone()).unwrap();
    let vms = [1, 2, 3].map(Uuid::from_u128);
    let carry_out = |uuid: Uuid| {
        let deed = Running { step: Step::Contain, workflow: model::Timestamp(1) };
        let (name, source) = ("web".to_owned(), "qemu:///system".to_owned());
        remedies.carry_out(deed, Patient { uuid, name, source, workflow: 1 }, Order::Contain);
    };
    let [first, second, third] = vms;
    [first, second].into_iter().for_each(carry_out);
    let until = Instant::now() + PATIENCE;
    while hands.begun.load(Ordering::Relaxed) < AT_A_TIME && Instant::now() < until {
        thread::park_timeout(Duration::from_millis(10));
    }
    carry_out(third);
    [third, first, second].into_iter().for_each(|vm| remedies.stop(vm));
    let mut ended = 0;
    while ended < vms.len() {
        let Some(Input::Remedied { report, .. }) = told.blocking_recv() else { panic!() };
        if let Report::Ended(result) = report {
            assert_eq!(result, Err(Failed::Stopped));
            ended += 1;
        }
    }
    assert_eq!(hands.begun.load(Ordering::Relaxed), AT_A_TIME);
}
