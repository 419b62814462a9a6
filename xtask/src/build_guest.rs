//! The one program that runs inside the lab's guests, statically linked.

use anyhow::Result;

use crate::process;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds it and leaves it where the harness looks for it.
pub(crate) fn build() -> Result<()> {
    let target = process::target().join("guest");
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--locked", "--release", "-p", "detector-guest"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    process::quiet(&mut cargo)?;
    let built = target.join(TARGET).join("release/guest-init");
    let place = process::target().join("lab/guest-init");
    std::fs::create_dir_all(process::target().join("lab"))?;
    std::fs::copy(built, place)?;
    Ok(())
}
