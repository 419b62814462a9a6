//! `--watch`: what a command prints, again and again.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;

use super::{Command, Done, args, complain, is_broken_pipe};

/// Home, and nothing below: what is printed next takes the place of what was there. A terminal that knows
/// how shows it when it is whole.
const BEGIN: &str = "\x1b[?2026h\x1b[H\x1b[J";
const END: &str = "\x1b[?2026l";

/// Whether a command only reads, so that it may be repeated.
pub(super) fn is_repeatable(command: &Command) -> bool {
    use super::{mitigation::MitigationCommand, remediate::args::RemediateCommand};
    use args::{
        AlertCommand, ClockCommand, FindingCommand, PortCommand, ProcessCommand, QuarantineCommand,
        TemplateCommand, VmCommand,
    };
    matches!(
        command,
        Command::Status
            | Command::Health
            | Command::Explain { .. }
            | Command::Remediate {
                command: RemediateCommand::Status { .. } | RemediateCommand::Plan { .. }
            }
            | Command::Mitigation { command: MitigationCommand::List }
            | Command::Port { command: PortCommand::List | PortCommand::Show { .. } }
            | Command::Vm { command: VmCommand::List | VmCommand::Show { .. } }
            | Command::Quarantine { command: QuarantineCommand::List | QuarantineCommand::Show(_) }
            | Command::Finding { command: FindingCommand::List | FindingCommand::Show { .. } }
            | Command::Alert { command: AlertCommand::Status | AlertCommand::List }
            | Command::Clock { command: ClockCommand::Show }
            | Command::Template { command: TemplateCommand::List | TemplateCommand::Show { .. } }
            | Command::Process { command: ProcessCommand::List | ProcessCommand::Show { .. } }
    )
}

/// Runs it every so many seconds until somebody interrupts it or nobody reads any more. What fails is told of
/// and tried again: a daemon may come back.
#[expect(clippy::disallowed_methods, reason = "a person has asked for it every so many seconds")]
pub(super) fn repeat(seconds: u64, mut run: impl FnMut() -> Result<Done>) -> ExitCode {
    let terminal = io::stdout().is_terminal();
    let control = |code: &str| if terminal { put(code) } else { Ok(()) };
    loop {
        let shown = control(BEGIN).map_err(Into::into).and_then(|()| run().map(drop));
        match shown {
            Err(error) if is_broken_pipe(&error) => return ExitCode::SUCCESS,
            Err(error) => complain(&error),
            Ok(()) => (),
        }
        if control(END).is_err() {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
