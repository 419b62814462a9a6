//! `cargo xtask check`: the tidy rules, which are tests of this crate.

use anyhow::Result;

use crate::process;

pub(crate) fn run() -> Result<()> {
    process::shown(process::cargo().args(["test", "--quiet", "-p", "xtask"]))
}

#[cfg(test)]
mod tests;
