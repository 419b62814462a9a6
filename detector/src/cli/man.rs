use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, Done};

/// Of commands for administrators.
const SECTION: &str = "8";

pub(super) fn run(directory: Option<&Path>) -> Result<Done> {
    let mut command = Cli::command().disable_help_subcommand(true);
    match directory {
        Some(directory) => {
            command.build();
            write(&command, directory)
                .with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
        }
        None => page(command).render(&mut std::io::stdout())?,
    }
    Ok(Done::Fine)
}

/// A page for the command and for each one beneath it.
fn write(command: &Command, directory: &Path) -> std::io::Result<()> {
    page(command.clone()).generate_to(directory)?;
    let mut shown = command.get_subcommands().filter(|below| !below.is_hide_set());
    shown.try_for_each(|below| write(below, directory))
}

fn page(command: Command) -> Man {
    Man::new(command).section(SECTION).manual("detector")
}
