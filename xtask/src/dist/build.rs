//! The program, without a word of the machine that it was built on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Optimisation, Product, needs};
use crate::setup::Processor;
use crate::{build_ebpf, process};

/// What has privileges: it holds the kernel object.
pub(super) const PART: &str = "detector-part";
/// What speaks to the fleet.
pub(super) const FLEET: &str = "detector-fleet";
/// What shows it all to people.
pub(super) const MONITOR: &str = "detector-monitor";

/// Builds it, with the kernel object that is the same for every processor; the answer is where it is. The other
/// programs are beside it.
pub(super) fn build(product: &Product) -> Result<PathBuf> {
    let binary = compile(product)?;
    let (part, object) = (binary.with_file_name(PART), build_ebpf::object());
    if !holds(&std::fs::read(&part)?, &std::fs::read(&object)?) {
        bail!("{} does not hold {}", part.display(), object.display());
    }
    for program in [part, binary.with_file_name(FLEET), binary.with_file_name(MONITOR)] {
        needs::only_the_c_library(&product.machine, &program)?;
    }
    Ok(binary)
}

fn compile(product: &Product) -> Result<PathBuf> {
    if let Some(built) = &product.built {
        return Ok(built.clone());
    }
    let machine = &product.machine;
    let target = product.place.join("build");
    let mut cargo = match machine.cross {
        Some(processor) => processor.cargo()?,
        None => process::cargo(),
    };
    let flags = cargo.get_envs().find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS");
    let flags = flags.and_then(|(_, value)| value?.to_str()).map(str::to_owned);
    let remap = [
        (build_ebpf::cargo_home()?, "/cargo"),
        (product.source.clone(), "/detector"),
        (target.clone(), "/build"),
    ];
    let rust =
        remap.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    let rust: Vec<_> = flags.into_iter().chain(rust).collect();
    let c = remap.iter().map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()));
    let c: Vec<_> = machine.cross.iter().map(|it| it.c_flags()).chain(c).collect();
    let profile = match product.optimisation {
        Optimisation::Release => "release",
        Optimisation::Dev => "dev",
    };
    cargo
        .args(["build", "--locked", "--package", "detector", "--package", MONITOR])
        .args(["--profile", profile])
        .args(["--target", &machine.target, "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\u{1f}"))
        .env(format!("CFLAGS_{}", machine.target), c.join(" "))
        .env("DETECTOR_EBPF_OBJECT", build_ebpf::object())
        .current_dir(&product.source);
    process::quiet(&mut cargo)?;
    let directory = match product.optimisation {
        Optimisation::Release => "release",
        Optimisation::Dev => "debug",
    };
    Ok(target.join(&machine.target).join(directory).join("detector"))
}

/// Has the compiler look at the program for another processor: layouts are asserted as it is compiled. Nothing is
/// linked.
pub(super) fn check(processor: Processor) -> Result<()> {
    let mut cargo = processor.cargo()?;
    cargo
        .args(["check", "--quiet", "--locked", "--package", "detector", "--package", MONITOR])
        .args(["--target", processor.target, "--target-dir"])
        .arg(process::target().join("cross/check"))
        .env("DETECTOR_EBPF_OBJECT", build_ebpf::object())
        // Nobody runs it, nor builds it a second time.
        .envs([("CARGO_PROFILE_DEV_DEBUG", "false"), ("CARGO_INCREMENTAL", "0")]);
    process::quiet(&mut cargo).map(drop)
}

/// Strips the program into a place, and leaves what was stripped off in another.
pub(super) fn strip(product: &Product, binary: &Path, to: &Path, debug: &Path) -> Result<()> {
    let objcopy = || product.machine.tool("objcopy");
    process::quiet(
        objcopy().args(["--only-keep-debug", "--compress-debug-sections"]).arg(binary).arg(debug),
    )?;
    let link = format!("--add-gnu-debuglink={}", debug.display());
    process::quiet(objcopy().args(["--strip-unneeded", &link]).arg(binary).arg(to))
        .context("cannot strip the program")?;
    Ok(())
}

fn holds(all: &[u8], part: &[u8]) -> bool {
    // Nearly every place differs in the first bytes.
    all.windows(part.len()).any(|window| window == part)
}
