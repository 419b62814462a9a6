//! bpf-linker, built for the LLVM of the compiler.

use anyhow::Result;

use super::{Toolchain, pins, tools};
use crate::process;

pub(super) fn is_installed() -> Result<bool> {
    tools::is_installed("bpf-linker", pins::BPF_LINKER)
}

pub(super) fn install(toolchain: &Toolchain) -> Result<()> {
    let feature = format!("llvm-{}", toolchain.llvm());
    let prefix = toolchain.llvm_prefix()?;
    let mut cargo = tools::install("bpf-linker", pins::BPF_LINKER);
    cargo.args(["--no-default-features", "--features", &feature]).env("LLVM_PREFIX", prefix);
    process::quiet(&mut cargo).map(drop)
}
