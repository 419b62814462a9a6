//! `cargo xtask demo`: the product at work, from an empty machine.

use anyhow::Result;

use crate::process;
use crate::setup::{self, Profile};
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
    process::shown(process::cargo().args(["build", "--quiet", "-p", "detector"]))?;
    build_guest::build()?;
    Ok(())
}
