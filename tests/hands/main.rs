//! Does one thing that a remediation does, and prints what came of it. It ends itself in the middle, or waits there,
//! where it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context, Result};
use detector::remediate::contain::contain;
use detector::remediate::evidence::{self, Evidence};
use detector::remediate::provision;
use detector::remediate::provision::offline::{self, Limits, Where};
use detector::remediate::replace::Replacer;
use detector::remediate::storage::{Mover, Tell, shut_off};
use detector_tests::hands::{Answer, Order, Place, SAYS, Then, WAITS};
use nix::sys::signal::{Signal, raise};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hands: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut next = || words.next().context("expected what to do, and what then, as JSON");
    let order: Order = serde_json::from_str(&next()?)?;
    let then: Then = serde_json::from_str(&next()?)?;
    let (count, waited) = (AtomicU32::new(0), AtomicBool::new(false));
    let hear = move |what: String| {
        println!("{SAYS}{what}");
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        match &then {
            Then::Dies(at) if *at == number => drop(raise(Signal::SIGKILL)),
            Then::WaitsFor(start)
                if what.starts_with(start) && !waited.swap(true, Ordering::Relaxed) =>
            {
                println!("{WAITS}");
                let _ = std::io::stdin().lock().read_line(&mut String::new());
            }
            _ => {}
        }
    };
    println!("{}", serde_json::to_string(&carry_out(order, hear))?);
    Ok(std::io::stdout().flush()?)
}

fn carry_out(order: Order, hear: impl Fn(String) + Send + Sync + 'static) -> Answer {
    let stop = Arc::new(AtomicBool::new(false));
    let mover = |Place { state, image_dirs, kept, segment }: Place| {
        let mover = Mover::new(&state, &image_dirs, Arc::clone(&stop));
        mover.with_kept(kept).with_segment(segment)
    };
    let hear = Arc::new(hear);
    let also = Arc::clone(&hear);
    let tell: Tell = Arc::new(move |progress| also(format!("{progress:?}")));
    let done = match order {
        Order::Plan { task, at } => mover(at).plan(&task).map(Answer::Plan),
        Order::Move { task, at } => mover(at).carry_out(&task, &tell).map(Answer::Moved),
        Order::Undo { domain, at } => mover(at).undo(domain, &tell).map(|()| Answer::Undone),
        Order::ShutOff { uri, domain, grace, force } => {
            shut_off(&uri, domain, grace, force, &stop, &tell).map(Answer::Off)
        }
        Order::Contain { uri, domain, how } => {
            contain(&uri, domain, how, &stop, &tell).map(Answer::Contained)
        }
        Order::Evidence { id, uri, domain, state } => {
            let frames = vec!["52:54:00:00:00:1f asks for 192.0.2.1".to_owned()];
            evidence::of_domain(&id, &uri, domain, frames, &BTreeMap::new(), &stop, &tell).map(
                |case| match Evidence::new(&state).keep(&case, jiff::Timestamp::now()) {
                    Ok(kept) => Answer::Kept(kept.place, kept.manifest),
                    Err(error) => Answer::Failed(error.to_string()),
                },
            )
        }
        Order::Replace { replacement, state } => {
            Replacer::new(&state, stop).carry_out(&replacement, &tell).map(Answer::Replaced)
        }
        Order::TakeBack { former, state } => {
            Replacer::new(&state, stop).undo(former, &tell).map(|()| Answer::Undone)
        }
        Order::Provision { provisioner, request, state } => {
            let said = |said| hear(format!("{said:?}"));
            let ended = provision::run(&provisioner, *request, &state, &stop, said);
            Ok(ended.map_or_else(
                |error| Answer::Failed(error.to_string()),
                |ended| Answer::Provisioned(Box::new(ended)),
            ))
        }
        Order::Offline { uri, pool, request, work, timeout } => {
            let at = Where { uri: &uri, pool: &pool };
            let limits = Limits { timeout, keep: 4096 };
            let ended = offline::run(&at, *request, &work, &limits, &stop, &tell);
            ended.map(|ended| Answer::Provisioned(Box::new(ended)))
        }
    };
    done.unwrap_or_else(Answer::Storage)
}
