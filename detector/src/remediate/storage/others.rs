//! What is somebody else's too: a file that another domain names in whatever way, that lies beneath one of its disks,
//! or that a template is, does not go with a VM that names it as its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use roxmltree::Node;
use uuid::Uuid;

use super::{Mover, Session, StorageError, shell, shown};
use crate::{
    inventory::xml::{attribute, child, devices, document},
    registry::{self, ChainError, OpenError},
};

/// A file that is to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goes<'a> {
    pub(super) target: &'a str,
    pub(super) real: &'a Path,
    /// Device and inode: it may have several names.
    pub(super) identity: (u64, u64),
}

/// What a description names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    /// Each with how the hypervisor reads it, `raw` where nothing can lie beneath it.
    files: BTreeSet<(PathBuf, String)>,
    /// Volumes with their pools, and the same.
    volumes: BTreeSet<(String, String, String)>,
}

impl Mover {
    /// Why these files do not go: whose they are too, and of whom that is not known.
    pub(super) fn others(
        &self,
        session: &Session,
        domain: Uuid,
        goes: &[Goes<'_>],
    ) -> Result<Vec<String>, StorageError> {
        if goes.is_empty() {
            return Ok(Vec::new());
        }
        let mut look = Look { goes, known: BTreeSet::new(), against: BTreeSet::new() };
        for place in &self.kept {
            look.template(place);
        }
        let mut volumes = BTreeMap::new();
        session.each_other(domain, |name, xml| match names(xml) {
            Err(error) => look.unknown(name, &error),
            Ok(names) => {
                names.files.into_iter().for_each(|(path, format)| look.file(name, path, format));
                let named = names.volumes.into_iter();
                volumes.extend(named.map(|volume| (volume, name.to_owned())));
            }
        })?;
        let mut pools = BTreeMap::new();
        for ((pool, volume, format), name) in volumes {
            if !pools.contains_key(&pool) {
                pools.insert(pool.clone(), session.directory_of(&pool)?);
            }
            match pools.get(&pool).and_then(Option::as_ref) {
                None => look.unknown(&name, &format!("there is no storage pool {}", shell(&pool))),
                // A pool of something else than files.
                Some(None) => {}
                Some(Some(directory)) => look.file(&name, directory.join(&volume), format),
            }
        }
        Ok(look.against.into_iter().collect())
    }
}

struct Look<'a> {
    goes: &'a [Goes<'a>],
    known: BTreeSet<(PathBuf, String)>,
    against: BTreeSet<String>,
}

impl Look<'_> {
    fn file(&mut self, name: &str, path: PathBuf, format: String) {
        let one = (path, format);
        if self.known.contains(&one) {
            return;
        }
        let (path, format) = &one;
        let said = |file: &str| {
            let name = shell(name);
            format!("{file} is another VM's too: {name} names it, or has it beneath a disk")
        };
        self.compare(path, said);
        match layers(path, format) {
            Ok(layers) => layers.iter().for_each(|layer| self.compare(layer, said)),
            Err(error) => self.unknown(name, &error.to_string()),
        }
        self.known.insert(one);
    }

    fn template(&mut self, path: &Path) {
        let said = |file: &str| format!("{file} is a template's, and stays");
        self.compare(path, said);
        // What is no such image has nothing beneath it.
        for layer in layers(path, "qcow2").unwrap_or_default() {
            self.compare(&layer, said);
        }
    }

    fn unknown(&mut self, name: &str, why: &str) {
        self.against.insert(format!(
            "it is not known which files {} has, so that one of them could be moved: {why}",
            shell(name)
        ));
    }

    fn compare(&mut self, path: &Path, say: impl Fn(&str) -> String) {
        let found = fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        for one in self.goes {
            if path == one.real || found == Some(one.identity) {
                self.against.insert(say(&format!("its disk {} ({})", one.target, shown(one.real))));
            }
        }
    }
}

/// The files of a disk, its own among them. One that is not there has none.
fn layers(path: &Path, format: &str) -> Result<Vec<PathBuf>, ChainError> {
    if format == "raw" {
        return Ok(Vec::new());
    }
    match registry::base(path, Some(format)) {
        Ok((layers, _)) => Ok(layers.into_iter().map(|layer| layer.path).collect()),
        Err(ChainError::Open(absent, OpenError::Absent)) if absent == path => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whatever looks like the name of a file, wherever it is: a disk, a medium, a kernel, firmware, the target of a copy
/// that is under way, an argument of QEMU's.
fn names(xml: &str) -> Result<Names, String> {
    let document = document(xml).map_err(|error| error.to_string())?;
    let domain = document.root_element();
    let mut names = Names::default();
    let means = |part: &Node<'_, '_>| {
        !matches!(part.tag_name().name(), "name" | "title" | "description" | "metadata")
    };
    for node in domain.children().filter(means).flat_map(|part| part.descendants()) {
        let values = node.attributes().map(|attribute| attribute.value());
        for value in values.chain(node.text()) {
            let value = value.trim();
            let parts = value.split([',', '=']).chain([value]);
            let paths = parts.filter(|part| part.starts_with('/'));
            names.files.extend(paths.map(|path| (path.into(), "raw".to_owned())));
        }
        names.volumes.extend(volume(node, "raw"));
    }
    for disk in devices(domain, "disk") {
        let format = attribute(disk, "driver", "type").unwrap_or("raw");
        let Some(source) = child(disk, "source") else { continue };
        let path = source.attribute("file").or_else(|| source.attribute("dev"));
        names.files.extend(path.map(|path| (path.into(), format.to_owned())));
        names.volumes.extend(volume(source, format));
    }
    Ok(names)
}

fn volume(node: Node<'_, '_>, format: &str) -> Option<(String, String, String)> {
    let of = |name: &str| node.attribute(name).map(str::to_owned);
    Some((of("pool")?, of("volume")?, format.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn whatever_a_description_names_is_seen() {
        let xml = "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>/name</name>\
            <metadata><x>/said</x></metadata>\
            <os><kernel>/k</kernel><initrd> /i </initrd><nvram template='/t'>/n</nvram></os>\
            <devices><disk type='file' device='cdrom'><source file='/cd'/><target dev='sda'/><readonly/></disk>\
            <disk type='file'><driver type='qcow2'/><source file='/d'/><mirror><source file='/m'/></mirror>\
            <target dev='vda'/><shareable/></disk><disk type='volume'><driver type='qcow2'/>\
            <source pool='p' volume='v'/><target dev='vdb'/></disk></devices>\
            <qemu:commandline><qemu:arg value='if=virtio,file=/a,format=raw'/></qemu:commandline></domain>";
        let names = names(xml).unwrap();
        let named = |path: &str, format: &str| {
            names.files.contains(&(PathBuf::from(path), format.to_owned()))
        };
        for path in ["/k", "/i", "/t", "/n", "/cd", "/d", "/m", "/a"] {
            assert!(named(path, "raw"), "{path}: {names:?}");
        }
        assert!(named("/d", "qcow2") && !named("/said", "raw") && !named("/name", "raw"));
        let volume = |format: &str| ("p".to_owned(), "v".to_owned(), format.to_owned());
        assert!(names.volumes.contains(&volume("raw")) && names.volumes.contains(&volume("qcow2")));
        assert!(super::names("<domain").is_err());
    }

    #[test]
    fn by_any_name_and_beneath_a_disk_it_is_the_same_file() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("ours"), vec![0; 1 << 16]).unwrap();
        fs::hard_link(at("ours"), at("hard")).unwrap();
        std::os::unix::fs::symlink(at("ours"), at("soft")).unwrap();
        fs::write(at("other"), "").unwrap();
        let mut tool = Command::new("qemu-img");
        tool.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(at("ours"))
            .arg(at("top"));
        assert!(tool.status().unwrap().success());
        let found = fs::metadata(at("ours")).unwrap();
        let real = at("ours");
        let goes = [Goes { target: "vda", real: &real, identity: (found.dev(), found.ino()) }];
        let look = |place: &str, format: &str, template: bool| {
            let mut look = Look { goes: &goes, known: BTreeSet::new(), against: BTreeSet::new() };
            match template {
                true => look.template(&at(place)),
                false => look.file("web 2", at(place), format.to_owned()),
            }
            look.against.into_iter().collect::<Vec<_>>().join("; ")
        };
        // (its name there, how it is read, whether a template is that, what is said)
        let cases = [
            ("ours", "raw", false, "another VM's too: 'web 2' names it"),
            ("hard", "raw", false, "another VM's too"),
            ("soft", "raw", false, "another VM's too"),
            ("top", "qcow2", false, "another VM's too"),
            ("other", "raw", false, ""),
            ("absent", "qcow2", false, ""),
            ("other", "vmdk", false, "it is not known which files 'web 2' has"),
            ("hard", "", true, "is a template's, and stays"),
            ("top", "", true, "is a template's, and stays"),
            ("other", "", true, ""),
        ];
        for (place, format, template, expect) in cases {
            let said = look(place, format, template);
            assert!(
                said.contains(expect) && said.is_empty() == expect.is_empty(),
                "{place}: {said}"
            );
        }
    }
}
