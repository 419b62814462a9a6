use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;

use super::{Cli, Done};

pub(super) fn run(directory: Option<&Path>) -> Result<Done> {
    let command = Cli::command();
    match directory {
        Some(directory) => clap_mangen::generate_to(command, directory)
            .with_context(|| format!("cannot write manual pages to {}", directory.display()))?,
        None => clap_mangen::Man::new(command).render(&mut std::io::stdout())?,
    }
    Ok(Done::Fine)
}
