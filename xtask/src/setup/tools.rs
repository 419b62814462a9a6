//! Programs that are built from the package registry in pinned versions, under `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process;

/// The directory to put on the PATH.
pub(crate) fn directory() -> PathBuf {
    process::target().join("tools/bin")
}

/// Whether the program is there, of that version.
pub(super) fn is_installed(name: &str, version: &str) -> Result<bool> {
    let program = directory().join(name);
    if !program.is_file() {
        return Ok(false);
    }
    let said = process::quiet(Command::new(program).arg("--version"))?;
    Ok(said.split_whitespace().nth(1) == Some(version))
}

/// The command that installs it, to which features may be added.
pub(super) fn install(name: &str, version: &str) -> Command {
    let mut cargo = process::cargo();
    cargo
        .args(["install", name, "--version", version, "--locked", "--force", "--root"])
        .arg(process::target().join("tools"));
    cargo
}
