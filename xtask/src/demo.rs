//! `cargo xtask demo`: the product at work, from an empty machine.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::setup::{self, Profile};
use crate::steps::{Outcome, Steps};
use crate::{build_ebpf, build_guest};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the lab up at the end, and say how to enter it
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    prepare(&[])?;
    let mut demo = Command::new(process::target().join("debug/demo"));
    if args.keep {
        demo.arg("--keep");
    }
    process::shown(&mut demo)
}

/// Everything that the lab runs: packages, kernel object, the daemon, the harness and the guest's program,
/// and whatever else of the workspace `cargo build` is told to build.
///
/// All of it at once and nothing by package: what a package is built with by itself differs in its
/// features, so that each of its dependencies would be built anew.
pub(crate) fn prepare(more: &[&str]) -> Result<()> {
    setup::ensure(Profile::Lab)?;
    build_ebpf::build()?;
    let mut steps = Steps::default();
    steps.quiet("the guests' program", || build_guest::build().map(|()| Outcome::done()))?;
    steps.quiet("daemon and harness", || {
        process::quiet(process::cargo().args(["build", "--locked", "--bins"]).args(more))?;
        Ok(Outcome::Done("target/debug/detector".to_owned()))
    })
}
