//! The modules that a kernel needs for the suites, in the order in which they can be loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What the suites need of a kernel, beyond the machine itself. One that is missing is built in, or
/// the kernel does not have it, which the tests find out. The first is asked for without being named.
const WANTED: [&str; 27] = [
    "crc32c_generic",
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "ext4",
    "loop",
    "dm_snapshot",
    "tun",
    "bridge",
    "br_netfilter",
    "veth",
    "macvtap",
    "8021q",
    "bonding",
    "openvswitch",
    "vhost_net",
    "sch_ingress",
    "cls_bpf",
    "act_gact",
    "act_mirred",
    "nf_tables",
    "nf_conntrack",
    "nft_chain_nat",
    "nft_ct",
    "nft_masq",
    "nft_meta_bridge",
    "nf_conntrack_bridge",
];

/// A module and what the kernel takes it by.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// Everything wanted that the kernel has as modules, each behind what it depends on.
pub(crate) fn closure(directory: &Path) -> Result<Vec<Module>> {
    let mut paths = BTreeMap::new();
    collect(&directory.join("kernel"), &mut paths)
        .with_context(|| format!("cannot list {}", directory.display()))?;
    let mut modules = Vec::new();
    for name in WANTED {
        add(name, &paths, &mut modules)?;
    }
    Ok(modules)
}

fn collect(directory: &Path, paths: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if let Some((name, _)) = name.split_once(".ko") {
            paths.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn add(name: &str, paths: &BTreeMap<String, PathBuf>, modules: &mut Vec<Module>) -> Result<()> {
    let Some(path) = paths.get(name) else { return Ok(()) };
    if modules.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let content = read(path)?;
    for needed in dependencies(&content) {
        add(&needed, paths, modules)?;
    }
    modules.push(Module { name: name.to_owned(), content });
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        }
        Some("xz") => {
            let output = Command::new("xz").arg("-dc").arg(path).output();
            let output = output.context("cannot run xz (package xz-utils)")?;
            if !output.status.success() {
                bail!("xz cannot unpack {}", path.display());
            }
            Ok(output.stdout)
        }
        _ => bail!("{} is compressed in a way that is not known here", path.display()),
    }
}

/// A module names what it depends on in its `.modinfo` section, as `depends=a,b`.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        return Vec::new();
    };
    let value = module[start + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        let module = |text: &str| [b"\x7fELF\0license=GPL\0", text.as_bytes(), b"\0"].concat();
        assert_eq!(dependencies(&module("depends=llc,stp-x")), ["llc", "stp_x"]);
        assert_eq!(dependencies(&module("depends=")), [""; 0]);
        assert_eq!(dependencies(&module("name=x")), [""; 0]);
    }
}
