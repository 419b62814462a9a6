use std::{ops::ControlFlow, sync::atomic::AtomicUsize};

use detector_core::{
    model::Timestamp,
    remediate::{Deed, Step},
};

use super::*;
use crate::remediate::hands::Hear;

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

/// What waits for a place while it is told to stop is not begun when there is one.
#[test]
fn what_is_stopped_before_it_has_a_place_does_not_begin() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hands = Arc::new(Slow::default());
    let (inputs, mut told) = mpsc::channel(1024);
    let store = Store::open(directory.path()).0;
    let asked: Arc<dyn Hands> = Arc::<Slow>::clone(&hands);
    let remedies = Remedies::start(store, asked, inputs, runtime.handle().clone()).unwrap();
    let vms = [1, 2, 3].map(Uuid::from_u128);
    let carry_out = |uuid: Uuid| {
        let deed = Running { step: Step::Contain, workflow: Timestamp(1) };
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
