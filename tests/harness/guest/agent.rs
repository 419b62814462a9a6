//! What QEMU's guest agent needs in a guest's initial file system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::{artefacts, run};

/// What the guest's system says it is.
const OS_RELEASE: &str = "ID=debian\nVERSION_ID=\"12\"\n";

/// Adds the agent, what it is linked with, and what it tells.
pub(super) fn add(archive: &mut Archive) -> Result<()> {
    let agent = artefacts::guest_agent()?;
    let libraries = libraries(&agent)?;
    let directories = ["usr/sbin", "etc", "var/run"].map(PathBuf::from);
    let of_libraries =
        libraries.iter().filter_map(|path| Some(relative(path).parent()?.to_owned()));
    let mut wanted = BTreeSet::new();
    for directory in directories.into_iter().chain(of_libraries) {
        wanted.extend(directory.ancestors().map(Path::to_path_buf));
    }
    // Parents come before what is in them.
    for directory in wanted.iter().filter(|path| !path.as_os_str().is_empty()) {
        archive.directory(&directory.to_string_lossy());
    }
    archive.executable("usr/sbin/qemu-ga", &read(&agent)?);
    for library in &libraries {
        archive.executable(&relative(library).to_string_lossy(), &read(library)?);
    }
    archive.file("etc/os-release", OS_RELEASE.as_bytes());
    Ok(())
}

/// The loader and the libraries, by the names by which the program asks for them.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    let result = ldd.output();
    let listed = run::checked(&ldd, result)?;
    // `NAME => PATH (ADDRESS)`, or the loader's path alone.
    let paths =
        listed.lines().filter_map(|line| line.split_whitespace().find(|w| w.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
