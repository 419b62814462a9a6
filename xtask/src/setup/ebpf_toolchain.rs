//! The compiler for the kernel programs. They need `-Z build-std`, so the standard library's source
//! has to be there, and an LLVM for bpf-linker that matches the compiler's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::pins;
use crate::process;

/// Where the compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// rustup's nightly with rust-src.
    Nightly,
    /// Debian 12's own compiler for browsers, newer than Debian 12.
    Debian,
}

/// A compiler that can build the kernel programs.
pub(crate) struct Toolchain {
    route: Route,
    sysroot: PathBuf,
    llvm: String,
}

/// What a person runs where setup does not install a compiler.
pub(super) const NIGHTLY: &str = "rustup toolchain install nightly --component rust-src";

pub(super) fn choose() -> Route {
    match sysroot(&mut nightly("rustc")) {
        Ok(sysroot) if has_source(&sysroot) => Route::Nightly,
        _ => Route::Debian,
    }
}

pub(super) fn locate(route: Route) -> Result<Toolchain> {
    let sysroot = sysroot(&mut compiler(route))
        .with_context(|| format!("no compiler for the kernel programs; run: {NIGHTLY}"))?;
    if !has_source(&sysroot) {
        bail!("{} has no source of the standard library; run: {NIGHTLY}", sysroot.display());
    }
    let version = process::quiet(compiler(route).arg("-vV"))?;
    let llvm = version.lines().find_map(|l| l.strip_prefix("LLVM version: "));
    let llvm = llvm.and_then(|v| v.split('.').next()).unwrap_or_default().to_owned();
    if !pins::LINKER_LLVMS.contains(&llvm.as_str()) {
        let known = pins::LINKER_LLVMS.join(", ");
        bail!(
            "the compiler at {} uses LLVM {llvm}, but bpf-linker {} knows only {known}",
            sysroot.display(),
            pins::BPF_LINKER
        );
    }
    Ok(Toolchain { route, sysroot, llvm })
}

impl Toolchain {
    /// The toolchain that setup has prepared.
    pub(crate) fn find() -> Result<Self> {
        locate(choose())
    }

    /// Its cargo, able to use unstable flags.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = match self.route {
            Route::Nightly => nightly("cargo"),
            Route::Debian => Command::new("/usr/bin/cargo"),
        };
        process::without_toolchain(&mut cargo);
        if self.route == Route::Debian {
            cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        }
        cargo
    }

    /// The directory of the standard library's source.
    pub(crate) fn library_source(&self) -> PathBuf {
        source(&self.sysroot)
    }

    /// Major version of the LLVM that the compiler was built with.
    pub(super) fn llvm(&self) -> &str {
        &self.llvm
    }

    /// The directory that holds `bin/llvm-config` of that version.
    pub(super) fn llvm_prefix(&self) -> Result<PathBuf> {
        if let Some(prefix) = std::env::var_os("LLVM_PREFIX") {
            return Ok(prefix.into());
        }
        let debian = PathBuf::from(format!("/usr/lib/llvm-{}", self.llvm));
        if debian.join("bin/llvm-config").is_file() {
            return Ok(debian);
        }
        bail!(
            "bpf-linker needs the headers of LLVM {0}: install llvm-{0}-dev, or set LLVM_PREFIX to \
             where bin/llvm-config of LLVM {0} is",
            self.llvm
        )
    }
}

fn compiler(route: Route) -> Command {
    match route {
        Route::Nightly => nightly("rustc"),
        Route::Debian => {
            let mut rustc = Command::new("/usr/bin/rustc");
            process::without_toolchain(&mut rustc);
            rustc
        }
    }
}

fn nightly(tool: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", tool]);
    process::without_toolchain(&mut command);
    command
}

fn sysroot(rustc: &mut Command) -> Result<PathBuf> {
    let printed = process::quiet(rustc.args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(printed.trim()))
}

fn source(sysroot: &Path) -> PathBuf {
    // Debian's is a symbolic link to where the source is.
    let rust = sysroot.join("lib/rustlib/src/rust");
    rust.canonicalize().unwrap_or(rust)
}

fn has_source(sysroot: &Path) -> bool {
    source(sysroot).join("library").is_dir()
}
