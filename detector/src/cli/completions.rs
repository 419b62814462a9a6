use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Done};

pub(super) fn run(shell: Shell) -> Result<Done> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "detector", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Done::Fine)
}
