//! Libvirt's description of a volume of a storage pool (<https://libvirt.org/formatstorage.html>): where a
//! disk is of which a domain says the pool and the name only.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::Node;

use super::{child, children, open, text};

/// A volume has no more parts than this.
const MAX_NODES: u32 = 10_000;

/// Volumes that one domain names.
const MOST: usize = 64;

/// A pool, and a volume in it, by their names.
pub type VolumeName = (String, String);

/// Where volumes are.
pub type Volumes = BTreeMap<VolumeName, Volume>;

/// Where a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    File(String),
    /// And of a snapshot of a volume group the volume that it is one of.
    Block(String, Option<String>),
    /// Nowhere on this host.
    Elsewhere,
}

impl Volume {
    /// Reads the description of a volume. What cannot be understood is elsewhere.
    pub fn parse(xml: &str) -> Self {
        let Ok(document) = open(xml, MAX_NODES) else { return Self::Elsewhere };
        let volume = document.root_element();
        let path = child(volume, "target").and_then(|target| text(target, "path"));
        let path = path.filter(|path| path.starts_with('/')).map(str::to_owned);
        match (volume.attribute("type"), path) {
            (Some("file"), Some(path)) => Self::File(path),
            (Some("block"), Some(path)) => Self::Block(path, origin(volume)),
            _ => Self::Elsewhere,
        }
    }
}

/// Libvirt says so of a snapshot by the word of the volume group; of a file it repeats what is written in it.
fn origin(volume: Node<'_, '_>) -> Option<String> {
    let path = text(child(volume, "backingStore")?, "path")?;
    path.starts_with('/').then(|| path.to_owned())
}

/// The devices of this host that the disks of a domain name. Of a text that is no domain, none.
pub(crate) fn devices(xml: &str) -> Vec<String> {
    if !xml.contains("block") {
        return Vec::new();
    }
    let Ok(document) = open(xml, super::MAX_NODES) else { return Vec::new() };
    let disks = super::devices(document.root_element(), "disk");
    let blocks = disks.filter(|disk| disk.attribute("type") == Some("block"));
    let paths = blocks.filter_map(|disk| child(disk, "source")?.attribute("dev"));
    let paths: BTreeSet<_> = paths.filter(|path| path.starts_with('/')).collect();
    paths.into_iter().take(MOST).map(str::to_owned).collect()
}

/// The volumes that the disks of a domain name. Of a text that is no domain, none.
pub(crate) fn named(xml: &str) -> Vec<VolumeName> {
    // Most domains name none, and a text is not read twice for nothing.
    if !xml.contains("volume") {
        return Vec::new();
    }
    let Ok(document) = open(xml, super::MAX_NODES) else { return Vec::new() };
    let devices = children(document.root_element(), "devices");
    let disks = devices.flat_map(|devices| children(devices, "disk"));
    let mut names: Vec<_> = disks
        .flat_map(|disk| disk.descendants())
        .filter(|node| node.attribute("type") == Some("volume"))
        .filter_map(|node| name(child(node, "source")?))
        .collect();
    names.sort();
    names.dedup();
    names.truncate(MOST);
    names
}

/// The volume that a `<source>` names.
pub(super) fn name(source: Node<'_, '_>) -> Option<VolumeName> {
    Some((source.attribute("pool")?.to_owned(), source.attribute("volume")?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_volumes_are() {
        let at = |kind: &str, path: &str| {
            let target = format!("<target><path>{path}</path><format type='qcow2'/></target>");
            Volume::parse(&format!("<volume type='{kind}'><name>v</name>{target}</volume>"))
        };
        assert_eq!(at("file", "/srv/v"), Volume::File("/srv/v".to_owned()));
        assert_eq!(at("block", "/dev/vg/v"), Volume::Block("/dev/vg/v".to_owned(), None));
        let snapshot = |origin: &str| {
            Volume::parse(&format!(
                "<volume type='block'><name>v</name><target><path>/dev/vg/v</path></target>\
                 <backingStore><path>{origin}</path><permissions/></backingStore></volume>"
            ))
        };
        for (origin, expect) in [("/dev/vg/base", Some("/dev/vg/base")), ("base", None), ("", None)]
        {
            let expect = expect.map(str::to_owned);
            assert_eq!(snapshot(origin), Volume::Block("/dev/vg/v".to_owned(), expect), "{origin}");
        }
        for (kind, path) in [("network", "pool/v"), ("file", "v"), ("file", ""), ("dir", "/srv/v")]
        {
            assert_eq!(at(kind, path), Volume::Elsewhere, "{kind} {path}");
        }
        assert_eq!(Volume::parse("<volume"), Volume::Elsewhere);
    }

    #[test]
    fn which_volumes_a_domain_names() {
        let disk = |source: &str| format!("<disk type='volume'><source {source}/></disk>");
        let (one, other) = (disk("pool='p' volume='b'"), disk("pool='p' volume='a'"));
        let file = "<disk type='file'><source file='/volume'/></disk>";
        let broken = disk("pool='p'");
        let text = format!("<domain><devices>{one}{other}{one}{file}{broken}</devices></domain>");
        let name = |volume: &str| ("p".to_owned(), volume.to_owned());
        assert_eq!(named(&text), [name("a"), name("b")]);
        assert_eq!(named("<domain volume="), []);
        let block = |path: &str| format!("<disk type='block'><source dev='{path}'/></disk>");
        let disks =
            [block("/dev/vg/b"), block("/dev/vg/a"), block("/dev/vg/b"), block("b")].concat();
        let text = format!("<domain><devices>{file}{disks}<disk type='block'/></devices></domain>");
        assert_eq!(devices(&text), ["/dev/vg/a", "/dev/vg/b"]);
        assert_eq!(devices("<domain block="), [""; 0]);
        let many: String = (0..100).map(|n| disk(&format!("pool='p' volume='{n}'"))).collect();
        assert_eq!(named(&format!("<domain><devices>{many}</devices></domain>")).len(), MOST);
    }
}
