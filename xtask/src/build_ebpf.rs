//! `cargo xtask build-ebpf`: the kernel object, the same bytes wherever it is built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::setup::{self, Profile, Toolchain, tools};
use crate::steps::{Outcome, Steps};

const TARGET: &str = "bpfel-unknown-none";
const CRATE: &str = "detector-ebpf";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build again from a copy in another directory, and compare
    #[arg(long)]
    check_reproducible: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Profile::Build)?;
    build()?;
    if args.check_reproducible {
        Steps::default().quiet("the same from another directory", || {
            check_reproducible().map(|()| Outcome::done())
        })?;
    }
    Ok(())
}

/// Builds the object and says where it is and what it is.
pub(crate) fn build() -> Result<()> {
    Steps::default().quiet("kernel programs", || {
        let object = compile_here()?;
        let size = std::fs::metadata(&object)?.len();
        let digest = process::quiet(Command::new("sha256sum").arg(&object))?;
        let digest = digest.split(' ').next().unwrap_or_default();
        let place = object.strip_prefix(process::workspace()).unwrap_or(&object);
        Ok(Outcome::Done(format!("{}, {size} bytes, sha256 {digest}", place.display())))
    })
}

fn compile_here() -> Result<PathBuf> {
    let target = process::target().join("ebpf");
    let built = compile(&process::workspace(), &target)?;
    let object = object();
    if !same(&built, &object) {
        std::fs::copy(&built, &object).context("cannot copy the kernel object")?;
    }
    Ok(object)
}

/// Builds it again from a copy in another directory: the same bytes have to come out.
pub(crate) fn check_reproducible() -> Result<()> {
    let here = object();
    let elsewhere = process::target().join("reproduce");
    let copy = elsewhere.join("a").join("checkout");
    remove(&elsewhere)?;
    copy_checkout(&copy)?;
    let again = compile(&copy, &elsewhere.join("target"))?;
    if !same(&again, &here) {
        bail!("{} and {} differ: the build is not reproducible", here.display(), again.display());
    }
    remove(&elsewhere)
}

/// Where the object is once it has been built.
pub(crate) fn object() -> PathBuf {
    process::target().join("ebpf").join(format!("{CRATE}.o"))
}

/// Copies everything that belongs to the source.
pub(crate) fn copy_checkout(to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    let files = process::quiet(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(process::workspace()),
    )?;
    for file in files.lines() {
        let from = process::workspace().join(file);
        let to = to.join(file);
        std::fs::create_dir_all(to.parent().unwrap_or(&to))?;
        std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

fn compile(workspace: &Path, target: &Path) -> Result<PathBuf> {
    let toolchain = Toolchain::find()?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        remap(&cargo_home()?, "/cargo"),
        remap(&toolchain.library_source(), "/rust"),
        remap(workspace, "/detector"),
    ];
    // The linker is found on the PATH: its path among the flags would change the symbols' hashes.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(tools::directory()).chain(std::env::split_paths(&path));
    let mut cargo = toolchain.cargo();
    cargo
        .args(["build", "--locked", "-Zbuild-std=core", "--target", TARGET, "--release"])
        .args(["-p", CRATE, "--target-dir"])
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("PATH", std::env::join_paths(path)?)
        .current_dir(workspace);
    process::quiet(&mut cargo)?;
    Ok(target.join(TARGET).join("release").join(CRATE))
}

pub(crate) fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => {
            let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
            Ok(PathBuf::from(home).join(".cargo"))
        }
    }
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((std::fs::read(a), std::fs::read(b)), (Ok(a), Ok(b)) if a == b)
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(())
}
