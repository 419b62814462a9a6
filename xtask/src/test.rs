//! `cargo xtask test`: the whole of it, the same on a desk and in CI.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::setup::{self, Profile};
use crate::steps::{Outcome, Steps};
use crate::{build_ebpf, demo, dist, matrix};

/// The suites that need root, in the order they run. Each is one test binary of the tests crate.
const SUITES: &[&str] = &[
    "program",
    "host",
    "gate",
    "guard",
    "attack",
    "links",
    "isolation",
    "restart",
    "modes",
    "operations",
    "bad_input",
    "commands",
    "policy",
    "alerts",
    "processes",
    "kinds",
    "tamper",
    "lab",
    "admission",
    "migration",
    "story",
    "learning",
    "registry",
    "lineage",
    "responses",
    "mitigation",
    "remediation",
    "sources",
    "audit",
    "storage",
    "fleet",
    "monitor",
    BOOT,
    PACKAGES,
];

/// A host that starts anew, on a machine of its own.
const BOOT: &str = "boot";
/// What is done of it where everything is: each start takes half a minute and more.
const BOOT_QUICK: &[&str] = &["before_the_first_frame", "as_a_service"];

/// The packages, on a system that they have never been on.
const PACKAGES: &str = "packages";

/// Those that need more than a kernel, such as libvirt or other services: no other kernel runs them.
const NEED_LIBVIRT: &[&str] = &[
    "alerts",
    "processes",
    "lab",
    "admission",
    "migration",
    "story",
    "lineage",
    "responses",
    "mitigation",
    "remediation",
    "sources",
    "storage",
    "fleet",
    "monitor",
    BOOT,
    PACKAGES,
];

/// Those that would say the same on any kernel.
const KNOW_NO_KERNEL: &[&str] = &["bad_input", "commands", "policy", "audit"];

/// Those whose tests mostly wait for guests, each in a world of its own: two at a time.
const SIDE_BY_SIDE: &[&str] = &["migration", "sources"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Formatting, lints and unit tests only: needs no root and no lab
    #[arg(long)]
    unit: bool,
    /// One suite only
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(SUITES), conflicts_with = "unit")]
    suite: Option<String>,
    /// The suites that face the kernel, on another one: Debian's of this series, under QEMU
    #[arg(long, value_name = "SERIES", value_parser = clap::builder::PossibleValuesParser::new(matrix::NAMES), conflicts_with = "unit")]
    kernel: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    if !args.kernel.is_empty() {
        let is_left_out = |suite: &str| {
            let alike = args.suite.is_none() && KNOW_NO_KERNEL.contains(&suite);
            alike || NEED_LIBVIRT.contains(&suite)
        };
        let suites: Vec<_> = chosen(args).filter(|suite| !is_left_out(suite)).collect();
        matrix::run(&mut steps, &args.kernel, &suites)?;
        return steps.summary();
    }
    if args.suite.is_none() {
        // All at once: what the unit tests lack would otherwise come after them only.
        setup::ensure(if args.unit { Profile::Unit } else { Profile::Lab })?;
        build_ebpf::build()?;
        steps.shown("kernel programs, the same from another directory", || {
            build_ebpf::check_reproducible().map(|()| Outcome::done())
        });
        steps.shown("formatting", || cargo(&["fmt", "--all", "--check"]));
        steps.shown("lints", || {
            cargo(&["clippy", "--quiet", "--all-targets", "--", "--deny", "warnings"])
        });
        steps.shown("dependencies", dependencies);
        steps.shown("tidy rules", || cargo(&["test", "--quiet", "-p", "xtask"]));
        steps.shown("unit tests", || cargo(&["test", "--lib", "--bins"]));
        let second = ["--test", "agree", "--test", "learned", "--test", "lease"];
        steps.shown("second opinion", || cargo(&[&["test"], &second[..]].concat()));
    }
    if !args.unit {
        if !process::is_root() {
            bail!(
                "the suites make network namespaces and load programs: run them as root, or --unit"
            );
        }
        match &args.suite {
            Some(suite) => demo::prepare(&["--test", suite])?,
            None => demo::prepare(&["--tests"])?,
        }
        // A machine has them installed, too.
        if chosen(args).any(|suite| [BOOT, PACKAGES].contains(&suite)) {
            steps.shown("packages", || dist::for_tests().map(|()| Outcome::done()));
        }
        if chosen(args).any(|suite| suite == BOOT) {
            steps.shown("disk of a machine", || setup::ensure_machine().map(|()| Outcome::done()));
        }
        for suite in chosen(args) {
            steps.shown(&format!("suite {suite}"), || {
                // Others one at a time: they measure, and two would disturb each other.
                let at_once = if SIDE_BY_SIDE.contains(&suite) { 2 } else { 1 };
                let threads = format!("--test-threads={at_once}");
                let quick = if suite == BOOT && args.suite.is_none() { BOOT_QUICK } else { &[] };
                cargo(&[&["test", "--test", suite, "--", &threads], quick].concat())
            });
        }
        if args.suite.is_none() {
            steps.shown("the program for other processors", || {
                dist::check_others().map(|()| Outcome::done())
            });
            matrix::smoke(&mut steps);
        }
    }
    steps.summary()
}

fn chosen(args: &Args) -> impl Iterator<Item = &'static str> {
    SUITES.iter().copied().filter(|s| args.suite.as_deref().is_none_or(|one| one == *s))
}

fn cargo(args: &[&str]) -> Result<Outcome> {
    process::shown(process::cargo().args(args))?;
    Ok(Outcome::done())
}

/// The database of advisories is another server's, which this does without.
fn dependencies() -> Result<Outcome> {
    setup::cargo_deny::ensure()?;
    let program = setup::tools::directory().join("cargo-deny");
    let mut deny = Command::new(program);
    deny.args(["--offline", "--log-level", "error", "check", "bans", "licenses", "sources"]);
    process::shown(deny.current_dir(process::workspace()))?;
    Ok(Outcome::done())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_suite_is_run() {
        let there = std::fs::read_dir(process::workspace().join("tests/suites")).unwrap();
        let there = there.map(|entry| entry.unwrap().path());
        let suites = there.filter(|path| path.extension().is_some_and(|end| end == "rs"));
        let suites: BTreeSet<_> =
            suites.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        let run: BTreeSet<_> = SUITES.iter().map(|suite| (*suite).to_owned()).collect();
        assert_eq!(run, suites);
        assert_eq!(run.len(), SUITES.len(), "each once");
    }
}
