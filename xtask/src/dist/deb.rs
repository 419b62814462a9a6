//! The Debian package, by debhelper.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Product, needs, remove, stage};
use crate::process;

/// Packages of a version that was not released with another one's packaging.
const REVISION: &str = "1";

pub(super) fn make(product: &Product) -> Result<Vec<PathBuf>> {
    let version = format!("{}-{REVISION}", product.version);
    let place = product.place.join("deb").join(&product.machine.target);
    remove(&place)?;
    let work = place.join("detector");
    let debian = work.join("debian");
    std::fs::create_dir_all(&work)?;
    let mut copy = Command::new("cp");
    process::quiet(copy.arg("-a").arg(product.packaging("debian")).arg(&debian))?;
    stage::write(&debian.join("changelog"), &changelog(product, &version)?)?;
    let [needs, of_monitor] = stage::PACKAGES.each_ref().map(|package| {
        let root = product.stage().join(package.name);
        let programs: Vec<_> = package.programs.iter().map(|(_, to)| root.join(to)).collect();
        needs::debian(&product.machine, &programs)
    });
    copyright(product, &debian.join("copyright"))?;

    // Trying a package out is no reason to compress much.
    let compression = if product.is_optimised() { "-Zxz" } else { "-Zgzip -z1" };
    let mut build = Command::new("dpkg-architecture");
    build
        .args(["-a", product.machine.debian, "-c", "debian/rules", "binary"])
        .env("STAGE", product.stage())
        .env("CHANGELOG", product.source.join("CHANGELOG.md"))
        .env("COMPRESSION", compression)
        .env("NEEDS", needs?)
        .env("NEEDS_MONITOR", of_monitor?)
        .env("SOURCE_DATE_EPOCH", product.epoch.to_string())
        .env("LC_ALL", "C")
        .current_dir(&work);
    process::quiet(process::without_toolchain(&mut build))?;
    let taken = stage::PACKAGES.iter().map(|package| {
        let name = format!("{}_{version}_{}.deb", package.name, product.machine.debian);
        let to = product.out().join(&name);
        std::fs::copy(place.join(&name), &to)
            .with_context(|| format!("debhelper made no {name}"))?;
        Ok(to)
    });
    taken.collect()
}

/// Has lintian look at packages.
pub(super) fn check(packages: &[&PathBuf]) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]);
    process::quiet(lintian.args(packages)).context("lintian does not like the packages").map(drop)
}

/// What a person is told of a release is in the changelog of the source.
fn changelog(product: &Product, version: &str) -> Result<String> {
    let control = std::fs::read_to_string(product.packaging("debian/control"))?;
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("debian/control names no maintainer")?;
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", "--date", &format!("@{}", product.epoch)]);
    let date = process::quiet(date.env("LC_ALL", "C"))?;
    Ok(format!(
        "detector ({version}) unstable; urgency=medium\n\n  * Release {}: changelog.gz says what is new.\n\n -- {maintainer}  {}\n",
        product.version,
        date.trim()
    ))
}

/// The licence, in Debian's form.
fn copyright(product: &Product, path: &Path) -> Result<()> {
    let licence = std::fs::read_to_string(product.source.join("LICENSE"))?;
    let holder = licence.lines().find_map(|line| line.strip_prefix("Copyright (c) "));
    let (_, terms) = licence.split_once("\n\nPermission").context("LICENSE is not what it was")?;
    let terms = format!("Permission{terms}");
    let lines = terms.trim_end().lines();
    let terms: Vec<_> = lines
        .map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") })
        .collect();
    let text = std::fs::read_to_string(path)?;
    let text = text.replace("@COPYRIGHT@", holder.context("LICENSE names no holder")?);
    stage::write(path, &text.replace("@LICENSE@", &terms.join("\n")))
}
