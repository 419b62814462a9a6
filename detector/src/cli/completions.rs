use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Done};

pub(super) fn run(shell: Shell) -> Result<Done> {
    clap_complete::generate(shell, &mut Cli::command(), "detector", &mut std::io::stdout());
    Ok(Done::Fine)
}
