//! What `cargo xtask` has built or fetched for the lab, and where it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// `target/` of this checkout.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}

/// The daemon under test: `DETECTOR_BIN`, or what `cargo build` left.
pub fn detector() -> Result<PathBuf> {
    let path = match std::env::var_os("DETECTOR_BIN") {
        Some(path) => path.into(),
        None => target().join("debug/detector"),
    };
    existing(&path, "cargo build -p detector")
}

/// What the daemon under test has beside it: its processes with a privilege are runs of this program.
pub fn part() -> Result<PathBuf> {
    existing(&detector()?.with_file_name("detector-part"), "cargo build --bins")
}

/// The monitor under test, beside the daemon.
pub fn monitor() -> Result<PathBuf> {
    existing(&detector()?.with_file_name("detector-monitor"), "cargo build --bins")
}

/// A program that holds what it is told to: a tap, a map, nothing. It is built with the tests, beside the daemon.
pub fn holder() -> Result<PathBuf> {
    existing(&detector()?.with_file_name("holder"), "cargo build --bins")
}

/// What measures fleets of many hosts, beside the daemon.
pub fn scale() -> Result<PathBuf> {
    existing(&detector()?.with_file_name("scale"), "cargo build --bins")
}

/// The guest's only program.
pub fn guest_init() -> Result<PathBuf> {
    existing(&target().join("lab/guest-init"), "cargo xtask demo")
}

/// The guest's kernel.
pub fn kernel() -> Result<PathBuf> {
    only(&target().join("lab/kernel/boot"), "vmlinuz-")
}

/// A module of the guest's kernel.
pub fn module(name: &str) -> Result<PathBuf> {
    let modules = only(&target().join("lab/kernel/lib/modules"), "")?;
    let file = format!("{name}.ko");
    find(&modules.join("kernel"), &file)?
        .with_context(|| format!("no {file} below {}", modules.display()))
}

/// The release that the guest's kernel says it is.
pub fn kernel_release() -> Result<String> {
    let modules = only(&target().join("lab/kernel/lib/modules"), "")?;
    Ok(modules.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// The disk that whole machines start from.
pub fn machine_disk() -> Result<PathBuf> {
    existing(&target().join("lab/machine/root.ext4"), "cargo xtask test --suite boot")
}

/// QEMU's guest agent.
pub fn guest_agent() -> Result<PathBuf> {
    existing(&target().join("lab/agent/usr/sbin/qemu-ga"), "cargo xtask setup")
}

/// A Debian that nothing of ours has ever been on.
pub fn clean_root() -> Result<PathBuf> {
    existing(&target().join("clean/root"), "cargo xtask test --suite packages")
}

/// What is tried out of a package, of one kind, by its versions.
pub fn packages(name: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let directory = existing(&target().join("dist/dev"), "cargo xtask test --suite packages")?;
    let paths = std::fs::read_dir(&directory)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.retain(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let version = file.strip_prefix(name).and_then(|rest| rest.strip_prefix(['-', '_']));
        let is_of_it =
            version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()));
        is_of_it && path.extension().is_some_and(|e| e == ending)
    });
    paths.sort();
    Ok(paths)
}

fn only(directory: &Path, prefix: &str) -> Result<PathBuf> {
    existing(directory, "cargo xtask setup")?;
    let mut found = None;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found = Some(entry.path());
        }
    }
    found.with_context(|| format!("no {prefix}… in {}", directory.display()))
}

fn find(directory: &Path, file: &str) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, file)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|name| name == file) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn existing(path: &Path, made_by: &str) -> Result<PathBuf> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) => bail!("{} is not there; run: {made_by}", path.display()),
    }
}
