//! cargo-deny, which holds dependencies to `deny.toml`.

use anyhow::Result;

use super::{pins, tools};
use crate::process;
use crate::steps::{Outcome, Steps};

/// Brings it here, where it is not there yet. Nothing but `cargo xtask test` needs it.
pub(crate) fn ensure() -> Result<()> {
    if tools::is_installed("cargo-deny", pins::CARGO_DENY)? {
        return Ok(());
    }
    Steps::default().quiet(&format!("cargo-deny {}", pins::CARGO_DENY), || {
        // It looks at a few hundred packages: building it faster is worth more than a faster program.
        let mut cargo = tools::install("cargo-deny", pins::CARGO_DENY);
        process::quiet(cargo.args(["--no-default-features", "--debug"]))?;
        Ok(Outcome::done())
    })
}
