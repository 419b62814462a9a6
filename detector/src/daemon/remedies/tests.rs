use std::{ops::ControlFlow, sync::atomic::AtomicUsize};

use detector_core::{
    model,
    remediate::{By, Deed, Means, Outcome, Step, Ways, plan},
};

use super::*;
use crate::{
    audit::{Kind, Limits, Who, each_record},
    remediate::hands::Hear,
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

/// A daemon that ended after a workflow was on the disk, and before its records were in the audit.
#[test]
fn what_the_audit_is_owed_is_there_after_the_next_start_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut store, _) = Store::open(directory.path());
    let at = Timestamp::now();
    let kept = store.keep(&workflow(), at, [1, 2, 12].map(record).to_vec()).unwrap();
    // The one that was on its way had come there, and nobody had said so yet.
    let (writer, place) = audit(directory.path());
    assert!(runtime.block_on(writer.settled(at, kept[2].entry.clone())));
    for _ in 0..2 {
        let (inputs, _told) = mpsc::channel(1024);
        let hands: Arc<dyn Hands> = Arc::new(Slow::default());
        let (store, _) = Store::open(directory.path());
        let handle = runtime.handle().clone();
        let _remedies =
            Remedies::start(store, hands, (writer.clone(), &place), inputs, handle).unwrap();
        let until = Instant::now() + PATIENCE;
        let mut looks = Store::open(directory.path()).0;
        while !looks.owed().unwrap().is_empty() && Instant::now() < until {
            thread::park_timeout(Duration::from_millis(10));
        }
        assert_eq!(looks.owed().unwrap(), []);
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
    let (audit, place) = audit(directory.path());
    let remedies =
        Remedies::start(store, asked, (audit, &place), inputs, runtime.handle().clone()).unwrap();
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
