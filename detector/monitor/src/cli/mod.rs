//! The command line. Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 there is something to report (`status`, `plan`).

mod account;
mod args;
mod output;
mod plan;
mod read;
mod serve;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use detector_core::escape::escape;

use args::{Cli, Command};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match carry_out(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            let text = format!("{error:#}");
            let lines: Vec<_> = text.lines().map(escape).collect();
            eprintln!("detector-monitor: {}", lines.join("\n"));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(cli: Cli) -> Result<ExitCode> {
    let Cli { global, command } = cli;
    match command {
        Command::Run => serve::run(&global),
        Command::Status | Command::Hosts | Command::Vms(_) | Command::Findings => {
            read::run(&global, &command)
        }
        Command::Plan(args) => plan::run(&global, &args.policy),
        Command::Account { command } => account::run(&global, &command),
        Command::Openapi => {
            println!("{}", crate::web::openapi()?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "detector-monitor",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { directory } => {
            let mut command = Cli::command().disable_help_subcommand(true);
            command.build();
            pages(&command, &directory)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A manual page for the command and for each one beneath it.
fn pages(command: &clap::Command, directory: &std::path::Path) -> std::io::Result<()> {
    let page = clap_mangen::Man::new(command.clone()).section("8").manual("detector");
    page.generate_to(directory)?;
    let mut shown = command.get_subcommands().filter(|below| !below.is_hide_set());
    shown.try_for_each(|below| pages(below, directory))
}
