//! What a build for another processor needs: a linker, that processor's libraries, and a standard library
//! for it that belongs to the compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::{self, Archive};
use super::unpacked::remove;
use crate::process;

/// A processor other than this machine's.
#[derive(Clone, Copy)]
pub(crate) struct Processor {
    /// By the compiler's name.
    pub(crate) target: &'static str,
    /// By Debian's.
    pub(crate) debian: &'static str,
    /// What the names of its tools begin with.
    prefix: &'static str,
    emulator: &'static str,
}

/// Debian's compiler, which has a standard library for each processor that Debian runs on.
const RUSTC: &str = "rustc-web";
const LIBRARY: &str = "libstd-rust-web-dev";

impl Processor {
    /// Those that can be built for.
    pub(crate) const ALL: [Self; 1] = [Self {
        target: "aarch64-unknown-linux-gnu",
        debian: "arm64",
        prefix: "aarch64-linux-gnu",
        emulator: "qemu-aarch64-static",
    }];

    pub(crate) fn of(target: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|processor| processor.target == target)
    }

    /// The name of one of its binutils.
    pub(crate) fn tool(self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A root of its libraries and headers.
    pub(crate) fn root(self) -> PathBuf {
        process::target().join("cross").join(self.debian)
    }

    /// A cargo that can build for it.
    ///
    /// # Errors
    ///
    /// When the compiler that was asked cannot say where its libraries are.
    pub(crate) fn cargo(self) -> Result<Command> {
        let root = self.root();
        let linker = self.tool("gcc");
        let mut flags = vec![format!("-Clinker={linker}"), sysroot(&root, "-Clink-arg=")];
        // It leaves out libraries that nothing which is kept asks for, as it does for this machine.
        if let Some(lld) = lld()? {
            flags.push("-Clink-arg=-fuse-ld=lld".to_owned());
            flags.push(format!("-Clink-arg=-B{}", lld.display()));
        }
        let mut cargo = if self.has_library()? {
            process::cargo()
        } else {
            let mut cargo = Command::new("/usr/bin/cargo");
            process::without_toolchain(&mut cargo);
            cargo.env("RUSTC", "/usr/bin/rustc").current_dir(process::workspace());
            flags.push(sysroot(&root.join("usr"), ""));
            cargo
        };
        let libraries = root.join("usr/lib").join(self.prefix);
        cargo
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env(format!("CC_{}", self.target), linker)
            .env(format!("CFLAGS_{}", self.target), self.c_flags())
            .env("PKG_CONFIG_ALLOW_CROSS", "1")
            .env("PKG_CONFIG_SYSROOT_DIR", &root)
            .env("PKG_CONFIG_LIBDIR", libraries.join("pkgconfig"));
        Ok(cargo)
    }

    /// What a compiler of C needs to find its headers.
    pub(crate) fn c_flags(self) -> String {
        sysroot(&self.root(), "")
    }

    /// Runs a program for it on this machine.
    pub(crate) fn run(self, program: &Path) -> Command {
        let mut command = Command::new(self.emulator);
        command.arg("-L").arg(self.root()).arg(program);
        command
    }

    /// Whether the compiler that runs this has a standard library for it: `rustup target add` brings one.
    fn has_library(self) -> Result<bool> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut ask = Command::new(rustc);
        ask.args(["--print", "target-libdir", "--target", self.target]);
        let directory = process::quiet(ask.current_dir(process::workspace()))?;
        Ok(Path::new(directory.trim()).is_dir())
    }

    /// What is there was fetched for this: what the library belongs to, or the compiler that runs this.
    fn wanted(self) -> Result<String> {
        if self.has_library()? {
            return Ok("libraries only\n".to_owned());
        }
        let mut query = Command::new("dpkg-query");
        let version = process::quiet(query.args(["-W", "-f=${Version}", RUSTC]))
            .with_context(|| format!("run: rustup target add {}", self.target))?;
        Ok(format!("{LIBRARY}={version}\n"))
    }

    fn note(self) -> PathBuf {
        self.root().with_extension("fetched")
    }

    pub(super) fn is_there(self) -> Result<bool> {
        let fetched = std::fs::read_to_string(self.note()).unwrap_or_default();
        Ok(fetched == self.wanted()?)
    }

    /// Fetches its libraries.
    pub(super) fn fetch(self) -> Result<String> {
        if process::find("apt-get").is_none() {
            bail!(
                "there is no apt-get here: put the libraries and headers of libc and libvirt for {} below {}, \
                 and the line \"libraries only\" into {}",
                self.debian,
                self.root().display(),
                self.note().display()
            );
        }
        let wanted = self.wanted()?;
        let mut packages = vec!["libc6-dev", "libgcc-s1", "libvirt-dev"];
        packages.extend(wanted.trim().starts_with(LIBRARY).then_some(wanted.trim()));
        let sources = archive::sources()?;
        let directory = process::target().join("cross/apt").join(self.debian);
        let archive = Archive::new(directory, &sources, Some(self.debian))?;
        archive.update()?;
        remove(&self.root())?;
        archive.unpack_whole(&packages, &self.root())?;
        std::fs::write(self.note(), &wanted)?;
        Ok(packages.join(" "))
    }
}

/// Where the compiler that runs this has LLVM's linker, which links for every processor.
fn lld() -> Result<Option<PathBuf>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut ask = Command::new(rustc);
    ask.args(["--print", "target-libdir"]).current_dir(process::workspace());
    let libraries = process::quiet(&mut ask)?;
    let place = Path::new(libraries.trim()).with_file_name("bin").join("gcc-ld");
    Ok(place.is_dir().then_some(place))
}

fn sysroot(root: &Path, before: &str) -> String {
    format!("{before}--sysroot={}", root.display())
}
