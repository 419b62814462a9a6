//! The trees that the packages hold, as they will lie on a host.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Product, build, licences, pages, remove};
use crate::process;

/// What is installed by itself.
pub(super) struct Package {
    pub(super) name: &'static str,
    /// Where the programs go, by the names under which they are built; the first is what people type.
    pub(super) programs: &'static [(&'static str, &'static str)],
    /// Units of the service manager.
    pub(super) units: &'static [&'static str],
    /// Where files of the packaging go, and how.
    files: &'static [(&'static str, &'static str, u32)],
}

pub(super) const PACKAGES: [Package; 2] = [
    Package {
        name: "detector",
        programs: &[
            ("detector", "usr/sbin/detector"),
            (build::PART, "usr/libexec/detector/detector-part"),
            (build::FLEET, "usr/libexec/detector/detector-fleet"),
        ],
        units: &["detector.service", "detector-ready.service"],
        files: &[
            ("config.toml", "etc/detector/config.toml", 0o644),
            ("libvirt-hook-qemu", "etc/libvirt/hooks/qemu.d/detector", 0o755),
            ("libvirt-hook-lxc", "etc/libvirt/hooks/lxc.d/detector", 0o755),
            ("detector.sysusers", "usr/lib/sysusers.d/detector.conf", 0o644),
            ("policy.cedar", "usr/share/doc/detector/examples/policy.cedar", 0o644),
            ("policy.cedarschema", "usr/share/doc/detector/examples/policy.cedarschema", 0o644),
            ("policy-cases.toml", "usr/share/doc/detector/examples/policy-cases.toml", 0o644),
            ("template.toml", "usr/share/doc/detector/examples/template.toml", 0o644),
            ("monitoring/alerts.yaml", "usr/share/doc/detector/examples/alerts.yaml", 0o644),
            ("monitoring/dashboard.json", "usr/share/doc/detector/examples/dashboard.json", 0o644),
            ("../README.md", "usr/share/doc/detector/README.md", 0o644),
        ],
    },
    Package {
        name: build::MONITOR,
        programs: &[(build::MONITOR, "usr/sbin/detector-monitor")],
        units: &["detector-monitor.service"],
        files: &[
            ("monitor.toml", "etc/detector/monitor.toml", 0o644),
            ("detector-monitor.sysusers", "usr/lib/sysusers.d/detector-monitor.conf", 0o644),
            ("detector-monitor.tmpfiles", "usr/lib/tmpfiles.d/detector-monitor.conf", 0o644),
            ("../docs/monitor.md", "usr/share/doc/detector-monitor/monitor.md", 0o644),
        ],
    },
];

const UNITS: &str = "usr/lib/systemd/system";

/// Lays everything out; the answer is where the debugging symbols are.
pub(super) fn lay_out(product: &Product, binary: &Path) -> Result<Vec<PathBuf>> {
    remove(&product.stage())?;
    std::fs::create_dir_all(product.out())?;
    let mut symbols = Vec::new();
    for package in &PACKAGES {
        let root = product.stage().join(package.name);
        symbols.extend(put_programs(product, package, binary, &root)?);
        put_files(product, package, &root)?;
        put_documents(product, package, &binary.with_file_name(package.programs[0].0), &root)?;
        age(product, &root)?;
    }
    Ok(symbols)
}

fn put_programs(
    product: &Product,
    package: &Package,
    binary: &Path,
    root: &Path,
) -> Result<Vec<PathBuf>> {
    let put = |(name, to): &(&str, &str)| {
        let debug = format!("{name}-{}-{}.debug", product.version, product.machine.rpm);
        let debug = product.out().join(debug);
        let program = root.join(to);
        make_parent(&program)?;
        build::strip(product, &binary.with_file_name(name), &program, &debug)?;
        permit(&program, 0o755)?;
        Ok(debug)
    };
    package.programs.iter().map(put).collect()
}

fn put_files(product: &Product, package: &Package, root: &Path) -> Result<()> {
    for (from, to, mode) in package.files {
        put(&product.packaging(from), &root.join(to), *mode)?;
    }
    for unit in package.units {
        put(&product.packaging(unit), &root.join(UNITS).join(unit), 0o644)?;
    }
    if package.name == PACKAGES[0].name {
        for page in super::entries(&product.source.join("docs"), "md")? {
            let name = page.file_name().unwrap_or_default();
            put(&page, &root.join("usr/share/doc/detector").join(name), 0o644)?;
        }
        std::fs::create_dir_all(root.join("etc/detector/templates.d"))?;
    }
    Ok(())
}

/// Licences, completions and manual pages of a package whose commands are a program's.
fn put_documents(product: &Product, package: &Package, program: &Path, root: &Path) -> Result<()> {
    let name = package.name;
    let licences = root.join("usr/share/licenses").join(name);
    put(&product.source.join("LICENSE"), &licences.join("LICENSE"), 0o644)?;
    write(&licences.join("THIRD-PARTY"), &licences::of_dependencies(product, name)?)?;
    for (shell, to) in [
        ("bash", format!("usr/share/bash-completion/completions/{name}")),
        ("zsh", format!("usr/share/zsh/site-functions/_{name}")),
        ("fish", format!("usr/share/fish/vendor_completions.d/{name}.fish")),
    ] {
        write(&root.join(to), &product.run(program, &["completions", shell])?)?;
    }
    pages::write(product, name, program, &root.join("usr/share/man"))
}

/// Gives everything in the tree the time of the commit, and modes that do not depend on who made it.
fn age(product: &Product, root: &Path) -> Result<()> {
    process::quiet(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(root))?;
    let time = format!("@{}", product.epoch);
    let mut find = Command::new("find");
    find.arg(root).args(["-exec", "touch", "--no-dereference", "--date", &time, "{}", "+"]);
    process::quiet(&mut find).map(drop)
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_parent(to)?;
    std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    permit(to, mode)
}

pub(super) fn write(to: &Path, text: &str) -> Result<()> {
    make_parent(to)?;
    std::fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))?;
    permit(to, 0o644)
}

fn make_parent(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(path)).map_err(Into::into)
}

fn permit(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Into::into)
}
