//! The command line: one file for each noun.
//!
//! Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 there is something to report (`status` with open
//! findings, `alert status` with a receiver that fails, `doctor` with advice, `detach` with something to remove, `health` of a detector that cannot do all of its work, `ready` before VMs may start, `reload` of files of which something is not used, `explain` of something that is not granted, `enforce --dry-run` with something to cut, a clock that is doubted, `template verify` of an image that differs or
//! that no template in force matches, `policy diff` with a VM that would be judged otherwise, `audit verify` of an
//! audit that is not what was written).

mod alert;
mod args;
mod ask;
mod audit;
mod clock;
mod completions;
mod detach;
mod doctor;
mod explain;
mod finding;
mod fleet;
mod health;
mod hook;
mod man;
mod metrics;
mod mitigation;
mod mode;
mod output;
mod pins;
mod policy;
mod port;
mod posture;
mod process;
mod quarantine;
mod ready;
mod reload;
mod remediate;
mod run;
mod standing;
mod status;
mod template;
mod top;
mod vm;
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, error::ErrorKind};

use crate::escape;

pub use args::{Cli, Command, Format, Global};

/// How a command ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Done {
    Fine,
    Report,
    /// What libvirt is to be told.
    Answered(ExitCode),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    completions::answer();
    let arguments = hook::arguments(std::env::args_os());
    let cli = Cli::parse_from(&arguments);
    if let Some(seconds) = cli.global.watch {
        if !watch::is_repeatable(&cli.command) {
            let message =
                "--watch is for commands that read, such as `detector port list --watch`\n";
            Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
        return watch::repeat(seconds, || carry_out(Cli::parse_from(&arguments)));
    }
    match carry_out(cli) {
        Ok(Done::Fine) => ExitCode::SUCCESS,
        Ok(Done::Report) => ExitCode::from(3),
        Ok(Done::Answered(code)) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn carry_out(cli: Cli) -> Result<Done> {
    let Cli { global, command } = cli;
    match command {
        Command::Run(args) => run::run(&global, &args),
        Command::Status => status::run(&global),
        Command::Doctor => doctor::run(&global),
        Command::Detach(args) => detach::run(&global, &args),
        Command::Health => health::run(&global),
        Command::Ready(args) => ready::run(&global, &args),
        Command::Metrics => metrics::run(&global),
        Command::Reload => reload::run(&global),
        Command::Enforce { args, command } => mode::enforce(&global, &args, command),
        Command::Observe(args) => mode::observe(&global, &args),
        Command::BreakGlass(args) => mode::break_glass(&global, &args),
        Command::Maintenance(args) => mode::maintenance(&global, &args),
        Command::Clock { command } => clock::run(&global, &command),
        Command::Port { command } => port::run(&global, &command),
        Command::Vm { command } => vm::run(&global, &command),
        Command::Quarantine { command } => quarantine::run(&global, &command),
        Command::Template { command } => template::run(&global, &command),
        Command::Policy { command } => policy::run(&global, &command),
        Command::Mitigation { command } => mitigation::run(&global, &command),
        Command::Remediate { command } => remediate::run(&global, &command),
        Command::Audit { command } => audit::run(&global, &command),
        Command::Fleet { command } => fleet::run(&global, command),
        Command::Finding { command } => finding::run(&global, &command),
        Command::Alert { command } => alert::run(&global, &command),
        Command::Process { command } => process::run(&global, &command),
        Command::Top { interval } => top::run(&global, interval),
        Command::Explain { subject } => explain::run(&global, &subject),
        Command::Hook { command } => Ok(Done::Answered(hook::run(&global, &command))),
        Command::Completions { shell } => completions::run(shell),
        Command::Man { directory } => man::run(directory.as_deref()),
    }
}

fn complain(error: &anyhow::Error) {
    let text: Vec<_> = format!("{error:#}").lines().map(escape::escape).collect();
    eprintln!("detector: {}", text.join("\n"));
}

/// Whoever reads our output, such as `head`, has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
