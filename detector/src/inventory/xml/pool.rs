//! Libvirt's description of a storage pool (<https://libvirt.org/formatstorage.html>).

use std::path::{Path, PathBuf};

use super::{child, open, text};

/// A pool has no more parts than a domain.
const MAX_NODES: u32 = 10_000;

/// The directory in which the volumes of a pool are; none where they are no files or devices of this
/// host, or where it is a directory of everything.
pub(in crate::inventory) fn directory(xml: &str) -> Option<PathBuf> {
    let document = open(xml, MAX_NODES).ok()?;
    let pool = document.root_element();
    if !pool.has_tag_name("pool") {
        return None;
    }
    if !matches!(pool.attribute("type"), Some("dir" | "fs" | "netfs" | "logical")) {
        return None;
    }
    let path = Path::new(text(child(pool, "target")?, "path")?);
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    (path.is_absolute() && plain && !too_wide(path)).then(|| path.to_path_buf())
}

fn too_wide(path: &Path) -> bool {
    ["/", "/dev", "/dev/mapper", "/etc", "/proc", "/sys"].iter().any(|wide| path == Path::new(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools() {
        let cases = [
            (
                "<pool type='dir'><target><path>/srv/images</path></target></pool>",
                Some("/srv/images"),
            ),
            (
                "<pool type='logical'><target><path>/dev/vg0</path></target></pool>",
                Some("/dev/vg0"),
            ),
            ("<pool type='dir'><target><path>/</path></target></pool>", None),
            ("<pool type='dir'><target><path>/srv/../etc</path></target></pool>", None),
            ("<pool type='dir'><target><path>srv</path></target></pool>", None),
            ("<pool type='iscsi'><target><path>/dev/disk/by-path</path></target></pool>", None),
            ("<pool type='rbd'><source/></pool>", None),
            ("<domain type='dir'><target><path>/srv</path></target></domain>", None),
            ("<pool", None),
        ];
        for (xml, expect) in cases {
            assert_eq!(directory(xml), expect.map(PathBuf::from), "{xml}");
        }
    }
}
