//! `cargo xtask bench`: the cost of a verdict, measured in the kernel.

use std::process::Command;

use anyhow::Result;

use crate::demo;
use crate::process;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the benchmark; `-- --help` says what it takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // Some of it is measured with guests.
    demo::prepare(&[])?;
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--release", "-p", "detector", "-p", "detector-tests"]);
    // What the daemon has in processes of its own, the benchmark has as well.
    process::shown(build.args(["--bin", "detector-part", "--bin", "bench"]))?;
    let mut bench = Command::new(process::target().join("release/bench"));
    process::shown(bench.args(&args.rest))
}
