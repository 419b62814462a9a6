//! QEMU's guest agent, as Debian builds it, for one of the lab's guests: unpacked but not installed. What it
//! is linked with, QEMU itself needs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{pins, unpacked};
use crate::process;

pub(super) fn is_unpacked() -> bool {
    directory().join("usr/sbin/qemu-ga").is_file()
}

/// Fetches and unpacks it; the answer is its version.
pub(super) fn fetch() -> Result<String> {
    let version = unpacked::update_unless(|| {
        let policy = process::quiet(Command::new("apt-cache").args(["policy", pins::GUEST_AGENT]))?;
        let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        let candidate = candidate.filter(|version| *version != "(none)");
        candidate
            .map(str::to_owned)
            .with_context(|| format!("apt knows no package {}", pins::GUEST_AGENT))
    })?;
    unpacked::fetch(pins::GUEST_AGENT, &directory())?;
    Ok(version)
}

fn directory() -> PathBuf {
    process::target().join("lab/agent")
}
