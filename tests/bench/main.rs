//! `cargo xtask bench`: what a verdict costs, as ratios.
//!
//! Nothing is measured in absolute terms: whatever is compared runs in turn, round by round, so that
//! a busy machine slows both sides alike.

mod bridge;
mod chart;
mod crowd;
mod ebtables;
mod first_frame;
mod forwarding;
mod latency;
mod loading;
mod nftables;
mod programs;
mod report;
mod rounds;
mod tool;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::report::Report;

const USAGE: &str = "usage: bench [--only PART]… [--rounds N] [--json FILE] [--chart FILE]
  --only PART  measure this part alone, and those of further --only:
               programs, forwarding, loading, latency, crowd,
               first-frame
  --rounds N   how often each side runs; at least 3 (default 11)
  --json FILE  where the figures go (default target/bench.json)
  --chart FILE where the picture of forwarding goes (default target/bench.svg)
Example: cargo xtask bench --only latency --rounds 5
Ends with 1 when a target that must be met is missed.";

/// Measures one part, with so many rounds.
type Measure = fn(usize, &mut Report) -> Result<()>;

/// What can be measured: its name, what it is about, and how.
const PARTS: [(&str, &str, Measure); 6] = [
    ("programs", "the programs alone", programs::run),
    (FORWARDING, "the path of a frame", forwarding::run),
    ("loading", "grants put in force", loading::run),
    ("latency", "from claim to decision", latency::run),
    ("crowd", "a host with many VMs", crowd::run),
    ("first-frame", "approved VMs that start", first_frame::run),
];
const FORWARDING: &str = "forwarding";

struct Options {
    /// The parts that are wanted; all where none is named.
    only: Vec<String>,
    rounds: usize,
    json: PathBuf,
    chart: PathBuf,
}

fn main() -> ExitCode {
    if std::env::args().skip(1).any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let target = detector_tests::artefacts::target();
    let (json, chart) = (target.join("bench.json"), target.join("bench.svg"));
    let mut options = Options { only: Vec::new(), rounds: 11, json, chart };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--only" => options.only.push(value()?),
            "--rounds" => options.rounds = value()?.parse().context("--rounds wants a number")?,
            "--json" => options.json = value()?.into(),
            "--chart" => options.chart = value()?.into(),
            other => bail!("{other}: unknown"),
        }
    }
    let is_part = |name: &&String| PARTS.iter().any(|(part, ..)| part == name);
    if let Some(unknown) = options.only.iter().find(|name| !is_part(name)) {
        let parts = PARTS.map(|(part, ..)| part).join(", ");
        bail!("--only {unknown}: there is no such part; there are {parts}");
    }
    if options.rounds < 3 {
        bail!("--rounds: a median wants at least 3");
    }
    Ok(options)
}

/// Whether every target was met.
fn run(options: &Options) -> Result<bool> {
    own_bpffs()?;
    let mut report = Report::default();
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|o| o == part);
    for (_, about, measure) in PARTS.iter().filter(|(part, ..)| wanted(part)) {
        measure(options.rounds, &mut report).context(*about)?;
    }
    print!("{report}");
    report.write_json(&options.json)?;
    if wanted(FORWARDING) {
        chart::draw(&report, &options.chart)?;
    }
    Ok(report.met())
}

/// A BPF file system that only this process sees: what is pinned goes with it.
fn own_bpffs() -> Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace; root can")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NOTHING)
        .context("cannot mount a BPF file system")
}
