//! `cargo xtask test`: the whole of it, the same on a desk and in CI.

use anyhow::{Result, bail};

use crate::process;
use crate::setup::{self, Profile};
use crate::steps::{Outcome, Steps};
use crate::{build_ebpf, demo};

/// The suites that need root, in the order they run. Each is one test binary of the tests crate.
const SUITES: &[&str] =
    &["program", "host", "gate", "guard", "restart", "bad_input", "lab", "story", "learning"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Formatting, lints and unit tests only: needs no root and no lab
    #[arg(long)]
    unit: bool,
    /// One suite only
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(SUITES), conflicts_with = "unit")]
    suite: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    if args.suite.is_none() {
        setup::ensure(Profile::Build)?;
        build_ebpf::build()?;
        steps.shown("formatting", || cargo(&["fmt", "--all", "--check"]));
        steps.shown("lints", || {
            cargo(&["clippy", "--quiet", "--all-targets", "--", "--deny", "warnings"])
        });
        steps.shown("dependencies", dependencies);
        steps.shown("tidy rules", || cargo(&["test", "--quiet", "-p", "xtask"]));
        steps.shown("unit tests", || {
            cargo(&["test", "-p", "detector-common", "-p", "detector-core", "-p", "detector"])
        });
        steps.shown("harness", || cargo(&["test", "-p", "detector-tests", "--lib", "--bins"]));
    }
    if !args.unit {
        if !process::is_root() {
            bail!(
                "the suites make network namespaces and load programs: run them as root, or --unit"
            );
        }
        demo::prepare()?;
        for suite in SUITES.iter().filter(|s| args.suite.as_deref().is_none_or(|one| one == **s)) {
            steps.shown(&format!("suite {suite}"), || {
                // One at a time: they measure, and two would disturb each other.
                cargo(&["test", "-p", "detector-tests", "--test", suite, "--", "--test-threads=1"])
            });
        }
    }
    steps.summary()
}

fn cargo(args: &[&str]) -> Result<Outcome> {
    process::shown(process::cargo().args(args))?;
    Ok(Outcome::done())
}

fn dependencies() -> Result<Outcome> {
    if process::find("cargo-deny").is_none() {
        return Ok(Outcome::Skipped("cargo-deny is not installed".to_owned()));
    }
    cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"])
}
