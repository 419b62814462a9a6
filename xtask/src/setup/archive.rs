//! Debian's archive, read beside what the machine itself has installed: other suites, other processors.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::pins;
use crate::process;

/// One suite of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) mirror: String,
    pub(crate) suite: String,
}

/// Lists and packages of some suites in a directory of their own.
pub(super) struct Archive {
    directory: PathBuf,
    architecture: Option<&'static str>,
}

impl Archive {
    /// Without an architecture it is the machine's own.
    pub(super) fn new(
        directory: PathBuf,
        sources: &[Source],
        architecture: Option<&'static str>,
    ) -> Result<Self> {
        for place in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(directory.join(place))?;
        }
        std::fs::write(directory.join("status"), "")?;
        let lines: String = sources.iter().map(Source::line).collect();
        std::fs::write(directory.join("sources.list"), lines)?;
        Ok(Self { directory, architecture })
    }

    pub(super) fn update(&self) -> Result<()> {
        let mut update = self.apt("apt-get");
        // Without this a mirror that does not answer is a warning.
        update.args(["-o", "APT::Update::Error-Mode=any", "update"]);
        process::quiet(&mut update).map(drop)
    }

    /// Fetches packages with all that they depend on, and unpacks them into a directory.
    pub(super) fn unpack_whole(&self, packages: &[&str], place: &Path) -> Result<()> {
        let mut fetch = self.apt("apt-get");
        fetch.args(["--yes", "--no-install-recommends", "--download-only", "install"]);
        process::quiet(fetch.args(packages))?;
        let archives = self.directory.join("cache/archives");
        for entry in std::fs::read_dir(&archives)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "deb") {
                process::quiet(Command::new("dpkg").arg("-x").arg(&path).arg(place))?;
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    pub(super) fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, place) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            let place = self.directory.join(place);
            command.arg("-o").arg(format!("{option}={}", place.display()));
        }
        if let Some(architecture) = self.architecture {
            command.args(["-o", &format!("APT::Architecture={architecture}")]);
            command.args(["-o", &format!("APT::Architectures={architecture}")]);
        }
        command.args(["-qq", "-o", "Dir::Etc::sourceparts=-", "-o", "Acquire::Languages=none"]);
        command
    }
}

impl Source {
    /// As apt has it in its lists of sources.
    pub(super) fn line(&self) -> String {
        let key = Path::new(pins::ARCHIVE_KEYRING);
        let signed =
            if key.exists() { format!("[signed-by={}] ", key.display()) } else { String::new() };
        format!("deb {signed}{} {} main\n", self.mirror, self.suite)
    }
}

/// Where the machine itself gets Debian from: the release first, then what comes to it, with security.
///
/// # Errors
///
/// When apt knows no mirror of it.
pub(crate) fn sources() -> Result<Vec<Source>> {
    let mut sources = known()?;
    if sources.is_empty() {
        process::quiet(Command::new("apt-get").arg("update"))?;
        sources = known()?;
    }
    sources.first().context("apt knows no mirror of Debian's archive")?;
    Ok(sources)
}

/// The mirror of the release itself.
pub(super) fn mirror() -> Result<String> {
    Ok(sources()?.swap_remove(0).mirror)
}

fn known() -> Result<Vec<Source>> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]);
    targets.args(["Created-By: Packages", "Origin: Debian", "Component: main"]);
    let mut sources = Vec::new();
    for line in process::quiet(&mut targets)?.lines() {
        let Some((mirror, suite)) = line.split_once(' ') else { continue };
        let mirror = mirror.trim_end_matches('/').to_owned();
        sources.push(Source { mirror, suite: suite.to_owned() });
    }
    // The names of all others begin with the release's; what else the machine may know of is none of it.
    let release = codename();
    sources.retain(|source| source.suite.starts_with(&release));
    sources.sort_by_key(|source| source.suite.len());
    sources.dedup();
    Ok(sources)
}

/// Of the machine's own release; empty where it has none.
fn codename() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.unwrap_or_default().to_owned()
}
