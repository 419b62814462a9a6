//! The tree that every package holds, as it will lie on a host.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Product, build, licences, pages, remove};
use crate::process;

/// Where files of the packaging go, and how.
const FILES: [(&str, &str, u32); 11] = [
    ("config.toml", "etc/detector/config.toml", 0o644),
    ("libvirt-hook-qemu", "etc/libvirt/hooks/qemu.d/detector", 0o755),
    ("libvirt-hook-lxc", "etc/libvirt/hooks/lxc.d/detector", 0o755),
    ("detector.sysusers", "usr/lib/sysusers.d/detector.conf", 0o644),
    ("policy.cedar", "usr/share/doc/detector/examples/policy.cedar", 0o644),
    ("policy.cedarschema", "usr/share/doc/detector/examples/policy.cedarschema", 0o644),
    ("policy-cases.toml", "usr/share/doc/detector/examples/policy-cases.toml", 0o644),
    ("template.toml", "usr/share/doc/detector/examples/template.toml", 0o644),
    ("monitoring/alerts.yaml", "usr/share/doc/detector/examples/monitoring/alerts.yaml", 0o644),
    (
        "monitoring/dashboard.json",
        "usr/share/doc/detector/examples/monitoring/dashboard.json",
        0o644,
    ),
    ("../README.md", "usr/share/doc/detector/README.md", 0o644),
];

const UNITS: &str = "usr/lib/systemd/system";

/// What prints the completions of a shell, and where it looks for them.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/detector"),
    ("zsh", "usr/share/zsh/site-functions/_detector"),
    ("fish", "usr/share/fish/vendor_completions.d/detector.fish"),
];

/// Where the programs go, by the names under which they are built.
pub(super) const PROGRAMS: [(&str, &str); 3] = [
    ("detector", "usr/sbin/detector"),
    (build::PART, "usr/libexec/detector/detector-part"),
    (build::FLEET, "usr/libexec/detector/detector-fleet"),
];

/// Lays everything out; the answer is where the debugging symbols are.
pub(super) fn lay_out(product: &Product, binary: &Path) -> Result<Vec<PathBuf>> {
    let root = product.stage();
    remove(&root)?;
    std::fs::create_dir_all(product.out())?;
    let mut symbols = Vec::new();
    for (name, to) in PROGRAMS {
        let debug = format!("{name}-{}-{}.debug", product.version, product.machine.rpm);
        let debug = product.out().join(debug);
        let program = root.join(to);
        make_parent(&program)?;
        build::strip(product, &binary.with_file_name(name), &program, &debug)?;
        permit(&program, 0o755)?;
        symbols.push(debug);
    }

    for (from, to, mode) in FILES {
        put(&product.packaging(from), &root.join(to), mode)?;
    }
    for unit in units(product)? {
        put(&product.packaging(&unit), &root.join(UNITS).join(&unit), 0o644)?;
    }
    for page in super::entries(&product.source.join("docs"), "md")? {
        let name = page.file_name().unwrap_or_default();
        put(&page, &root.join("usr/share/doc/detector").join(name), 0o644)?;
    }
    std::fs::create_dir_all(root.join("etc/detector/templates.d"))?;
    let licences = root.join("usr/share/licenses/detector");
    put(&product.source.join("LICENSE"), &licences.join("LICENSE"), 0o644)?;
    write(&licences.join("THIRD-PARTY"), &licences::of_dependencies(product)?)?;
    for (shell, to) in COMPLETIONS {
        write(&root.join(to), &product.run(binary, &["completions", shell])?)?;
    }
    pages::write(product, binary, &root.join("usr/share/man"))?;
    age(product, &root)?;
    Ok(symbols)
}

/// The units of the service manager, by their names.
pub(super) fn units(product: &Product) -> Result<Vec<String>> {
    let units = super::entries(&product.source.join("packaging"), "service")?;
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(units.iter().filter_map(name).collect())
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
