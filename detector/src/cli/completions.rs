//! Completion in the shell: what it prints asks this program, which knows the names.

use std::{env, io::Write, path::PathBuf};

use anyhow::{Context, Result};
use clap::{CommandFactory, ValueEnum};
use clap_complete::{
    Shell,
    env::{CompleteEnv, Shells},
};

use super::{Cli, Done};
use crate::config::Config;

/// The variable by which a shell asks.
const ASKED: &str = "COMPLETE";

/// Answers a shell that asks for completions, and ends the process; returns where none does.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKED).bin("detector").complete();
}

pub(super) fn run(shell: Shell) -> Result<Done> {
    let name = shell.to_possible_value().map(|value| value.get_name().to_owned());
    let name = name.unwrap_or_default();
    let shells = Shells::builtins();
    let completer = shells
        .completer(&name)
        .with_context(|| format!("no completions for {name:?} are known"))?;
    let mut script = Vec::new();
    completer.write_registration(ASKED, "detector", "detector", "detector", &mut script)?;
    std::io::stdout().write_all(&script)?;
    Ok(Done::Fine)
}

/// The templates by the names that commands take, each with its status. None where they cannot be read:
/// a shell that waits for words is no place for complaints.
pub(super) fn templates() -> Vec<(String, String)> {
    let config = env::var_os("DETECTOR_CONFIG").map(PathBuf::from);
    let Ok(config) = Config::load(config.as_deref()) else { return Vec::new() };
    let Ok(mut manifests) = config.manifests(false) else { return Vec::new() };
    let templates = manifests.reload().templates;
    let named = templates.iter().map(|template| {
        let alone = templates.iter().filter(|other| other.id == template.id).count() == 1;
        let name = if alone { template.name() } else { template.exact_name() };
        (name, template.status.as_str().to_owned())
    });
    // A word that a shell would read as several is no help.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+:@/-".contains(c);
    named.filter(|(name, _)| name.chars().all(plain)).collect()
}
