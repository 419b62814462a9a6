//! `cargo xtask test --kernel …`: the suites that face the kernel, on kernels that this machine does
//! not run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::demo;
use crate::process;
use crate::setup::kernels::{SERIES, Series};
use crate::steps::{Outcome, Steps};

/// What `--kernel` takes.
pub(crate) const NAMES: [&str; 5] = ["5.10", "6.1", "6.12", "7.2", "all"];

/// The daemon's own tests of its hands: what they do to maps, programs and interfaces.
const ENFORCER: &str = "enforcer";

/// A kernel with clsact and one with TCX, and a test of everything that may go wrong on one.
const SMOKE: [&str; 2] = ["5.10", "7.2"];
const SMOKE_TESTS: &str = "gate=a_tap_that_nobody_knows_reaches_nobody,\
                           guard=a_quarantined_port_neither_sends_nor_receives_until_it_is_released,\
                           restart=kill_and_restart_lose_nothing_and_leak_nothing,\
                           operations=another_map_schema_takes_over_without_a_gap";

/// Runs the suites on each kernel, and writes down what came of it.
pub(crate) fn run(steps: &mut Steps, kernels: &[String], suites: &[&str]) -> Result<()> {
    demo::prepare(&["--tests"])?;
    let whole = suites.len() > 1;
    let mut suites = suites.to_vec();
    if whole {
        suites.push(ENFORCER);
    }
    steps.quiet("kernels: tests", || stage(&suites).map(|()| Outcome::done()))?;
    for series in SERIES {
        let wanted = |name: &String| *name == series.version || name == "all";
        if kernels.iter().any(wanted) {
            // What one suite came to says nothing about a kernel.
            let report = whole.then_some("--report");
            boot(steps, series, &suites.join(","), report);
        }
    }
    Ok(())
}

/// A few tests on two kernels. A failure is noted like one of any other step.
pub(crate) fn smoke(steps: &mut Steps) {
    let suites: Vec<_> = SMOKE_TESTS.split(',').filter_map(|s| s.split('=').next()).collect();
    let mut staged = false;
    steps.shown("kernels: tests", || {
        stage(&suites)?;
        staged = true;
        Ok(Outcome::done())
    });
    if !staged {
        return;
    }
    for series in SMOKE.into_iter().filter_map(Series::named) {
        boot(steps, series, SMOKE_TESTS, None);
    }
}

fn boot(steps: &mut Steps, series: Series, tests: &str, more: Option<&str>) {
    let version = series.version;
    if !series.is_there() {
        steps.shown(&format!("kernel {version}: fetch"), || series.fetch().map(Outcome::Done));
        if !series.is_there() {
            return;
        }
    }
    steps.shown(&format!("kernel {version}"), || {
        let mut matrix = Command::new(process::target().join("debug/matrix"));
        matrix.arg(version).arg(series.directory()).arg(binaries()).arg(tests).args(more);
        process::shown(&mut matrix)?;
        Ok(Outcome::done())
    });
}

/// Collects the programs that the guest runs, each by the name of its suite.
fn stage(suites: &[&str]) -> Result<()> {
    let place = binaries();
    std::fs::create_dir_all(&place)?;
    for suite in suites {
        let (name, what): (_, &[&str]) = match *suite {
            ENFORCER => ("detector", &["--lib"]),
            suite => (suite, &["--test", suite]),
        };
        link(&executable(name, what)?, &place.join(suite))?;
    }
    let built = process::target().join("debug");
    ["detector", "detector-part", "detector-fleet", "holder"]
        .into_iter()
        .try_for_each(|program| link(&built.join(program), &place.join(program)))
}

fn binaries() -> PathBuf {
    process::target().join("matrix/bin")
}

/// Builds a test without running it.
fn executable(name: &str, what: &[&str]) -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo.args(["test", "--locked", "--no-run", "--message-format=json"]).args(what);
    let messages = process::quiet(&mut cargo)?;
    let built = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name && message["profile"]["test"] == true)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    built.with_context(|| format!("cargo test {} built nothing", what.join(" ")))
}

fn link(from: &Path, to: &Path) -> Result<()> {
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => std::fs::hard_link(from, to)
            .with_context(|| format!("cannot link {} to {}", from.display(), to.display())),
    }
}
