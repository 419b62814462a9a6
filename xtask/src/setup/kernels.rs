//! The kernels of the matrix: packages of Debian's releases, unpacked but not installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::{self, Archive, Source};
use super::unpacked::remove;
use crate::process;

/// A series of kernels, and where Debian has it.
#[derive(Clone, Copy)]
pub(crate) struct Series {
    pub(crate) version: &'static str,
    suites: &'static [&'static str],
}

/// Every series of the matrix. The suites of one are asked in turn.
pub(crate) const SERIES: [Series; 4] = [
    Series { version: "5.10", suites: &["bullseye"] },
    Series { version: "6.1", suites: &["bookworm"] },
    Series { version: "6.12", suites: &["trixie", "bookworm-backports"] },
    Series { version: "7.2", suites: &["forky", "sid"] },
];

impl Series {
    pub(crate) fn named(version: &str) -> Option<Self> {
        SERIES.into_iter().find(|series| series.version == version)
    }

    /// Where `vmlinuz` and `modules` are once it has been fetched.
    pub(crate) fn directory(self) -> PathBuf {
        process::target().join("kernels").join(self.version)
    }

    pub(crate) fn is_there(self) -> bool {
        self.directory().is_dir()
    }

    /// Fetches and unpacks the latest package of the series; the answer is its name.
    ///
    /// # Errors
    ///
    /// When there is no apt, when the archive cannot be reached, or when no suite has the series.
    pub(crate) fn fetch(self) -> Result<String> {
        if process::find("apt-get").is_none() {
            bail!(
                "there is no apt-get here: unpack the modules and the vmlinuz of a Debian package \
                 linux-image-{}.…-amd64 into {}",
                self.version,
                self.directory().display()
            );
        }
        let mirror = archive::mirror()?;
        let mut tried = Vec::new();
        for suite in self.suites {
            let source = Source { mirror: mirror.clone(), suite: (*suite).to_owned() };
            let directory = process::target().join("kernels/apt").join(suite);
            let archive = Archive::new(directory, &[source], None)?;
            archive
                .update()
                .with_context(|| format!("cannot read Debian's suite {suite} at {mirror}"))?;
            if let Some(image) = latest(&archive, self.version)? {
                self.unpack(&archive, &image)?;
                return Ok(format!("{image} of {suite}"));
            }
            tried.push(format!("{suite} at {mirror}"));
        }
        bail!(
            "there is no package linux-image-{}.…-amd64 in {}: Debian has moved on; name its suite in {}",
            self.version,
            tried.join(", nor in "),
            file!()
        )
    }

    fn unpack(self, archive: &Archive, image: &str) -> Result<()> {
        let new = self.directory().with_extension("new");
        let (packages, root) = (new.join("packages"), new.join("root"));
        remove(&new)?;
        std::fs::create_dir_all(&packages)?;
        let mut download = archive.apt("apt-get");
        download.arg("download").args(parts(archive, image)?).current_dir(&packages);
        process::quiet(&mut download)?;
        for package in std::fs::read_dir(&packages)? {
            process::quiet(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&root))?;
        }
        remove(&packages)?;
        let modules = ["usr/lib/modules", "lib/modules"].map(|place| root.join(place));
        let modules = modules.iter().find_map(|place| only(place, ""));
        let modules = modules.with_context(|| format!("{image} holds no modules"))?;
        let kernel = only(&root.join("boot"), "vmlinuz-").or_else(|| only(&modules, "vmlinuz"));
        let kernel = kernel.with_context(|| format!("{image} holds no kernel"))?;
        std::fs::rename(kernel, new.join("vmlinuz"))?;
        // Most of it are drivers of hardware that no guest has.
        for place in ["drivers/gpu", "drivers/media", "drivers/net/wireless", "sound"] {
            remove(&modules.join("kernel").join(place))?;
        }
        std::fs::rename(modules, new.join("modules"))?;
        remove(&root)?;
        // The rename comes last, so that an interrupted run starts over.
        std::fs::rename(new, self.directory()).context("cannot keep the kernel")
    }
}

/// The latest kernel image of a series for ordinary machines: `linux-image-…-amd64`.
fn latest(archive: &Archive, version: &str) -> Result<Option<String>> {
    let names = names(archive, &format!("{IMAGE}{version}."))?;
    let plain = names.into_iter().filter(|name| is_plain(name));
    Ok(plain.max_by_key(|name| numbers(name)))
}

/// The packages that hold what once was one package.
fn parts(archive: &Archive, image: &str) -> Result<Vec<String>> {
    let release = image.trim_start_matches(IMAGE);
    let split = ["linux-binary-", "linux-modules-"].map(|part| format!("{part}{release}"));
    for name in &split {
        if !names(archive, name)?.contains(name) {
            return Ok(vec![image.to_owned()]);
        }
    }
    Ok(split.to_vec())
}

fn names(archive: &Archive, prefix: &str) -> Result<Vec<String>> {
    let names = process::quiet(archive.apt("apt-cache").args(["pkgnames", prefix]))?;
    Ok(names.lines().map(str::to_owned).collect())
}

const IMAGE: &str = "linux-image-";

/// Neither for clouds, which lacks modules, nor for real time, nor a template without a signature.
fn is_plain(image: &str) -> bool {
    let special = ["cloud", "rt", "unsigned"];
    image.ends_with("-amd64") && !image.split('-').any(|word| special.contains(&word))
}

/// The numbers in a name, by which versions are compared.
fn numbers(name: &str) -> Vec<u64> {
    let digits = name.trim_end_matches("-amd64").split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

/// The one entry of a directory that begins so.
fn only(directory: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?;
    let mut names = entries.filter_map(Result::ok);
    names.find(|e| e.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_plain_kernel_is_taken() {
        let names = [
            "linux-image-6.12.9+deb13-amd64",
            "linux-image-6.12.117+deb13-amd64",
            "linux-image-6.12.118+deb13-cloud-amd64",
            "linux-image-6.12.118+deb13-rt-amd64",
            "linux-image-6.12.118+deb13-amd64-unsigned",
            "linux-image-6.12.118+deb13-amd64-dbg",
        ];
        let plain = names.into_iter().filter(|name| is_plain(name));
        assert_eq!(plain.max_by_key(|name| numbers(name)), Some(names[1]));
    }
}
