//! `cargo xtask test --kernel …`: boots a kernel under QEMU and runs suites inside. What came of them
//! is what `docs/kernel-support.md` claims, and nothing else is.

mod initramfs;
mod machine;
mod modules;
mod outcome;
mod page;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::outcome::Outcome;

const USAGE: &str = "usage: matrix SERIES KERNEL BINARIES SUITE[=TEST],… [--report]
  SERIES    what the kernel is called: 6.1
  KERNEL    a directory with its `vmlinuz` and `modules`
  BINARIES  a directory with `detector` and a program for each suite
  --report  write what came of it into docs/kernel-support.md
Ends with 1 when a test failed.";

struct Options {
    series: String,
    kernel: PathBuf,
    binaries: PathBuf,
    suites: Vec<Suite>,
    report: bool,
}

/// A test program, and which of its tests to run: all whose name holds one of these words.
struct Suite {
    name: String,
    tests: Vec<String>,
}

fn main() -> ExitCode {
    let options = match options(&std::env::args().skip(1).collect::<Vec<_>>()) {
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
            eprintln!("matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Result<Options> {
    let (series, kernel, binaries, suites, report) = match arguments {
        [series, kernel, binaries, suites] => (series, kernel, binaries, suites, false),
        [series, kernel, binaries, suites, report] if report == "--report" => {
            (series, kernel, binaries, suites, true)
        }
        _ => bail!("four words, then maybe --report"),
    };
    Ok(Options {
        series: series.clone(),
        kernel: kernel.into(),
        binaries: binaries.into(),
        suites: suites.split(',').map(Suite::read).collect(),
        report,
    })
}

impl Suite {
    fn read(text: &str) -> Self {
        let (name, tests) = text.split_once('=').unwrap_or((text, ""));
        // The daemon's unit tests are many; these face the kernel.
        let tests =
            if name == "enforcer" { "bpf:: net:: what_the_kernel_answers_for" } else { tests };
        let tests = tests.split_whitespace().map(str::to_owned).collect();
        Self { name: name.to_owned(), tests }
    }

    /// The command as the guest's shell reads it.
    fn command(&self) -> String {
        let tests = self.tests.join(" ");
        format!("/binaries/{} --color never --test-threads=1 {tests}", self.name)
    }
}

fn run(options: &Options) -> Result<bool> {
    let place = detector_tests::artefacts::target().join("matrix");
    std::fs::create_dir_all(&place).context("cannot make a place for logs")?;
    let modules = modules::closure(&options.kernel.join("modules"))?;
    let initrd = place.join(format!("{}.initrd", options.series));
    std::fs::write(&initrd, initramfs::make(&modules, &options.suites)?)?;
    let mut outcome = Outcome::default();
    let log = place.join(format!("{}.log", options.series));
    let machine = machine::Machine {
        kernel: options.kernel.join("vmlinuz"),
        initrd,
        binaries: options.binaries.clone(),
        console: place.join(format!("{}.console", options.series)),
        log: log.clone(),
    };
    let ended = machine.run(|line| outcome.take(line));
    if let Err(error) = ended {
        outcome.fail(&format!("{error:#}"));
    }
    outcome.finish();
    print!("{}", outcome.summary());
    if !outcome.is_good() {
        println!("  everything that was said: {}", log.display());
    }
    // A kernel that has said nothing is none that was run.
    if options.report && !outcome.kernel.is_empty() {
        page::write(&options.series, &outcome)?;
    }
    Ok(outcome.is_good())
}
