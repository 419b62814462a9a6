//! `cargo xtask demo`: the product at work, from an empty machine.

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
    prepare()?;
    let mut demo = process::cargo();
    demo.args(["run", "--quiet", "-p", "detector-tests", "--bin", "demo", "--"]);
    if args.keep {
        demo.arg("--keep");
    }
    process::shown(&mut demo)
}

/// Everything that the lab runs: packages, kernel object, the daemon and the guest's program.
pub(crate) fn prepare() -> Result<()> {
    setup::ensure(Profile::Lab)?;
    build_ebpf::build()?;
    let mut steps = Steps::default();
    steps.quiet("daemon", || {
        process::quiet(process::cargo().args(["build", "--locked", "-p", "detector"]))?;
        Ok(Outcome::Done("target/debug/detector".to_owned()))
    })?;
    steps.quiet("the guests' program", || build_guest::build().map(|()| Outcome::done()))?;
    steps.quiet("harness", || {
        process::quiet(process::cargo().args(["build", "--locked", "-p", "detector-tests"]))?;
        Ok(Outcome::done())
    })
}
