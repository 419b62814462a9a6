//! `cargo xtask scale`: what a fleet of many hosts costs its monitor and its servers, and how long news take.
//!
//! NATS, the monitor and the command line are the real ones. Hosts are made up: each has credentials and a connection of
//! its own and says what a daemon's process would, and there is no daemon behind it.

mod crowd;
mod figures;
mod speaker;
mod stage;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::figures::Report;

/// Measures fleets of several sizes on this machine
#[derive(Debug, Parser)]
#[command(
    name = "scale",
    bin_name = "cargo xtask scale --",
    after_help = "\
Examples:
  cargo xtask scale
  cargo xtask scale -- --hosts 100,1000 --findings 500
  cargo xtask scale -- --hosts 10 --vms 4 --findings 10 --watch 2

Needs root and nats-server. Ends with 1 when memory or processor time grow faster than the number of VMs."
)]
struct Options {
    /// How many hosts the fleets have, one fleet after another
    #[arg(long, value_delimiter = ',', default_values_t = [100, 300, 1000], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    hosts: Vec<u32>,
    /// VMs of each host
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    vms: u32,
    /// Findings that are told while somebody looks, ten a second: for as long as a page follows without asking anew
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=2000))]
    findings: u32,
    /// For how many seconds processors are watched
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=240))]
    watch: u64,
    /// Where the figures go [default: target/scale.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing grows faster than the fleet.
fn run(options: &Options) -> Result<bool> {
    // A connection of each host is two descriptors of this machine: one here, one of the server, which inherits it.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot open more files")?;
    let mut report = Report::default();
    for hosts in &options.hosts {
        let size = stage::Size {
            hosts: *hosts,
            vms: options.vms,
            findings: options.findings,
            watch: Duration::from_secs(options.watch),
        };
        report.add(stage::measure(size).with_context(|| format!("{hosts} hosts"))?);
    }
    println!("{report}");
    let target = detector_tests::artefacts::target();
    report.write_json(options.json.as_ref().unwrap_or(&target.join("scale.json")))?;
    Ok(report.is_linear())
}
