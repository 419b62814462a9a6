//! The tarball: what lies on a host, for those that take neither package.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::{Product, stage};
use crate::process;

pub(super) fn make(product: &Product) -> Result<Vec<PathBuf>> {
    let name = format!("detector-{}-{}", product.version, product.machine.target);
    let to = product.out().join(format!("{name}.tar.gz"));
    let compress =
        if product.is_optimised() { "gzip --no-name --best" } else { "gzip --no-name --fast" };
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--format=gnu",
    ])
    .args(["--mtime", &format!("@{}", product.epoch)])
    .args(["--transform", &format!("s,^\\.,{name},"), "--use-compress-program", compress])
    .arg("--file")
    .arg(&to);
    for package in &stage::PACKAGES {
        tar.arg("--directory").arg(product.stage().join(package.name)).arg(".");
    }
    process::quiet(&mut tar)?;
    Ok(vec![to])
}
