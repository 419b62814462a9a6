//! The RPM, by rpmbuild.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Product, remove, stage};
use crate::process;

pub(super) fn make(product: &Product) -> Result<Vec<PathBuf>> {
    let place = product.place.join("rpm").join(&product.machine.target);
    remove(&place)?;
    std::fs::create_dir_all(&place)?;
    let units = stage::PACKAGES[0].units.join(" ");
    let payload = if product.is_optimised() { "w19.zstdio" } else { "w1.zstdio" };
    let mut build = Command::new("rpmbuild");
    build.args(["-bb", "--target", &format!("{}-linux", product.machine.rpm)]);
    for (name, value) in [
        ("_topdir", place.display().to_string()),
        ("stage", product.stage().display().to_string()),
        ("wanted_version", product.version.clone()),
        ("units", units),
        ("_binary_payload", payload.to_owned()),
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
    ] {
        build.args(["--define", &format!("{name} {value}")]);
    }
    build
        .arg(product.packaging("rpm/detector.spec"))
        .env("SOURCE_DATE_EPOCH", product.epoch.to_string());
    process::quiet(process::without_toolchain(&mut build))?;
    let rpm = &product.machine.rpm;
    let taken = stage::PACKAGES.iter().map(|package| {
        let name = format!("{}-{}-1.{rpm}.rpm", package.name, product.version);
        let to = product.out().join(&name);
        let made = place.join("RPMS").join(rpm).join(&name);
        std::fs::copy(made, &to).with_context(|| format!("rpmbuild made no {name}"))?;
        Ok(to)
    });
    taken.collect()
}
