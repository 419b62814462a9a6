//! `cargo xtask bench`: the cost of a verdict, measured in the kernel.

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
    let mut bench = process::cargo();
    bench.args(["run", "--quiet", "--release", "-p", "detector-tests", "--bin", "bench", "--"]);
    process::shown(bench.args(&args.rest))
}
