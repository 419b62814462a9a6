//! bpf-linker, built for the LLVM of the compiler, under `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::{Toolchain, pins};
use crate::process;

/// The directory to put on the PATH.
pub(crate) fn directory() -> PathBuf {
    process::target().join("tools/bin")
}

pub(super) fn is_installed() -> Result<bool> {
    let linker = directory().join("bpf-linker");
    if !linker.is_file() {
        return Ok(false);
    }
    let version = process::quiet(Command::new(linker).arg("--version"))?;
    Ok(version.split_whitespace().nth(1) == Some(pins::BPF_LINKER))
}

pub(super) fn install(toolchain: &Toolchain) -> Result<()> {
    let feature = format!("llvm-{}", toolchain.llvm());
    let prefix = toolchain.llvm_prefix()?;
    let mut cargo = process::cargo();
    cargo
        .args(["install", "bpf-linker", "--version", pins::BPF_LINKER, "--locked", "--force"])
        .args(["--no-default-features", "--features", &feature, "--root"])
        .arg(process::target().join("tools"))
        .env("LLVM_PREFIX", prefix);
    process::quiet(&mut cargo).map(drop)
}
