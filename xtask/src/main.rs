//! What a developer and the CI run: `cargo xtask …`, one module per command.

mod bench;
mod build_ebpf;
mod build_guest;
mod check;
mod demo;
mod dist;
mod matrix;
mod process;
mod scale;
mod setup;
mod steps;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "Builds, tests and shows the detector")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and the lab need; quick when nothing is missing
    Setup(setup::Args),
    /// Build the kernel programs into target/ebpf/detector-ebpf.o
    BuildEbpf(build_ebpf::Args),
    /// Everything: formatting, lints, unit tests, root suites and the end-to-end story
    Test(test::Args),
    /// Show the product at work in a lab of its own: real guests, real libvirt
    Demo(demo::Args),
    /// Make a Debian package, an RPM and a tarball into target/dist
    Dist(dist::Args),
    /// Measure the cost of a verdict
    Bench(bench::Args),
    /// Measure a fleet of many hosts: what it costs its monitor, how long news take
    Scale(scale::Args),
    /// The tidy rules: length of files, direction of imports, lint exceptions
    Check,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::BuildEbpf(args) => build_ebpf::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Check => check::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
