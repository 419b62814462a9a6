//! A Debian that nothing of ours has ever been on, for packages to be tried out on.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::archive::{self, Source};
use super::pins;
use super::unpacked::remove;
use crate::process;

const PLACE: &str = "clean/root";

fn directory() -> PathBuf {
    process::target().join(PLACE)
}

/// What says how it was made: another way makes it anew.
fn recipe() -> PathBuf {
    directory().with_extension("made")
}

fn made_by() -> String {
    [pins::CLEAN_ROOT, pins::CLEAN_ROOT_LATER].concat().join(" ")
}

pub(super) fn is_there() -> bool {
    directory().is_dir() && std::fs::read_to_string(recipe()).is_ok_and(|made| made == made_by())
}

/// Makes it; what the packages depend on is fetched and not installed.
pub(super) fn make() -> Result<()> {
    if !process::is_root() {
        bail!("only root can make a root file system");
    }
    let root = directory();
    remove(&root)?;
    std::fs::create_dir_all(root.parent().unwrap_or(&root))?;
    let sources = archive::sources()?;
    let list = root.with_extension("list");
    std::fs::write(&list, sources.iter().map(Source::line).collect::<String>())?;
    let later = format!(
        "chroot \"$1\" apt-get install --yes --no-install-recommends --download-only {}",
        pins::CLEAN_ROOT_LATER.join(" ")
    );
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--mode=root", "--variant=minbase", "--skip=cleanup/apt"])
        .arg(format!("--include={}", pins::CLEAN_ROOT.join(",")))
        .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io"])
        .arg(format!("--customize-hook={later}"))
        .arg(&sources[0].suite)
        .arg(&root)
        .arg(&list);
    process::quiet(&mut make)?;
    // It comes last, so that an interrupted setup starts over.
    std::fs::write(recipe(), made_by()).map_err(Into::into)
}
