//! `cargo xtask scale`: a fleet of many hosts, measured.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::setup::{self, Profile};
use crate::steps::{Outcome, Steps};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the measurement; `-- --help` says what it takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Profile::Lab)?;
    Steps::default().quiet("daemon and harness", || {
        let mut build = process::cargo();
        build.args(["build", "--locked", "--release"]);
        let bins = ["detector", "detector-part", "detector-monitor", "scale"];
        build.args(bins.iter().flat_map(|bin| ["--bin", bin]));
        process::quiet(&mut build).map(|_| Outcome::Done("target/release/scale".to_owned()))
    })?;
    let release = process::target().join("release");
    let mut scale = Command::new(release.join("scale"));
    process::shown(scale.env("DETECTOR_BIN", release.join("detector")).args(&args.rest))
}
