//! Running a program to its end.

use std::ffi::OsStr;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// What it printed; an error with what it complained about when it fails.
pub fn checked(command: &Command, result: std::io::Result<Output>) -> Result<String> {
    let output = result.with_context(|| format!("cannot run {}", line(command)))?;
    let out = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{} ({}): {out}{complaint}", line(command), output.status);
    }
    Ok(out.into_owned())
}

/// The command as a person would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
