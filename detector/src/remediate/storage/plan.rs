//! What of a domain is moved, what stays, and why one is not moved at all: from its description alone.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use roxmltree::Node;

use super::{Role, Stays};
use crate::inventory::xml::{attribute, child, devices, document, text};

/// The longest name of a disk (`vda`) that is taken up into the name of a volume.
const LONGEST_TARGET: usize = 16;

/// What a description says of the files that a VM has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::remediate) struct Described {
    pub(in crate::remediate) name: String,
    /// In their order; firmware's variables last.
    pub(in crate::remediate) own: Vec<Own>,
    pub(super) stays: Vec<Stays>,
    /// Why it is not moved; empty where it can be.
    pub(super) against: Vec<String>,
}

/// A file that the VM writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::remediate) struct Own {
    pub(in crate::remediate) target: String,
    pub(in crate::remediate) role: Role,
    pub(in crate::remediate) source: Named,
    /// How the hypervisor reads it.
    pub(in crate::remediate) format: String,
}

/// How a description names a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::remediate) enum Named {
    File(PathBuf),
    Volume { pool: String, volume: String },
}

/// Reads a description.
///
/// # Errors
///
/// It is not one.
pub(in crate::remediate) fn describe(xml: &str) -> Result<Described, String> {
    let document = document(xml).map_err(|error| format!("its description is refused: {error}"))?;
    let domain = document.root_element();
    let name = text(domain, "name").ok_or("its description has no name")?.to_owned();
    let mut described = Described { name, own: Vec::new(), stays: Vec::new(), against: Vec::new() };
    for disk in devices(domain, "disk") {
        described.add(disk);
    }
    if let Some((path, _)) = variables(domain) {
        described.own.push(Own {
            target: "nvram".to_owned(),
            role: Role::Variables,
            source: Named::File(path),
            format: "raw".to_owned(),
        });
    }
    Ok(described)
}

impl Described {
    fn add(&mut self, disk: Node<'_, '_>) {
        let target = attribute(disk, "target", "dev").unwrap_or("?").to_owned();
        let device = disk.attribute("device").unwrap_or("disk");
        let source = child(disk, "source");
        let stays = |why: &str| Stays { target: target.clone(), why: why.to_owned() };
        if matches!(device, "cdrom" | "floppy") {
            self.stays.extend(source.map(|_| stays("a medium that can be taken out")));
            return;
        }
        if child(disk, "readonly").is_some() {
            self.stays.push(stays("it is only read"));
            return;
        }
        if child(disk, "shareable").is_some() {
            self.against.push(format!("its disk {target} is shared with other VMs"));
            return;
        }
        match named(disk) {
            Ok(source) => self.own.push(Own {
                target,
                role: Role::Disk,
                source,
                format: attribute(disk, "driver", "type").unwrap_or("raw").to_owned(),
            }),
            Err(kind) => self.against.push(format!(
                "its disk {target} is {kind}; only files can be moved, so copy it into a file and describe it as \
                 one, or take it out"
            )),
        }
    }
}

fn named(disk: Node<'_, '_>) -> Result<Named, String> {
    let source = child(disk, "source");
    let of = |name: &str| source.and_then(|source| source.attribute(name)).map(str::to_owned);
    let absent = || "without a source".to_owned();
    match disk.attribute("type").unwrap_or("file") {
        "file" => Ok(Named::File(of("file").ok_or_else(absent)?.into())),
        "volume" => Ok(Named::Volume {
            pool: of("pool").ok_or_else(absent)?,
            volume: of("volume").ok_or_else(absent)?,
        }),
        "block" => Err(format!("the block device {}", of("dev").unwrap_or_default())),
        "network" => Err(format!("on the network ({})", of("protocol").unwrap_or_default())),
        other => Err(format!("of the type {other:?}")),
    }
}

/// The file of firmware's variables, and where the description names it.
fn variables(domain: Node<'_, '_>) -> Option<(PathBuf, Range<usize>)> {
    let nvram = child(child(domain, "os")?, "nvram")?;
    if let Some(source) = child(nvram, "source") {
        let file = source.attribute_node("file")?;
        return Some((file.value().into(), file.range_value()));
    }
    let text = nvram.children().find(Node::is_text)?;
    let path = text.text()?.trim();
    (!path.is_empty()).then(|| (path.into(), text.range()))
}

/// The same description with files at other places, by the names of disks.
///
/// # Errors
///
/// What comes of it would not say that.
pub(super) fn rewrite(xml: &str, places: &[(String, PathBuf)]) -> Result<String, String> {
    let mut edits = edits(xml, places)?;
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut rewritten = xml.to_owned();
    for (range, text) in edits {
        rewritten.replace_range(range, &text);
    }
    let after = describe(&rewritten)?;
    for (target, place) in places {
        let there = after.own.iter().find(|own| own.target == *target);
        if there.is_none_or(|own| own.source != Named::File(place.clone())) {
            return Err(format!("its description cannot be written anew for {target}"));
        }
    }
    Ok(rewritten)
}

fn edits(xml: &str, places: &[(String, PathBuf)]) -> Result<Vec<(Range<usize>, String)>, String> {
    let document = document(xml).map_err(|error| error.to_string())?;
    let domain = document.root_element();
    let place_of = |target: &str| places.iter().find(|(of, _)| of == target).map(|(_, path)| path);
    let mut edits = Vec::new();
    for disk in devices(domain, "disk") {
        let target = attribute(disk, "target", "dev").unwrap_or("?");
        let (Some(path), Some(source)) = (place_of(target), child(disk, "source")) else {
            continue;
        };
        let path = escaped(path)?;
        if let Some(file) = source.attribute_node("file") {
            edits.push((file.range_value(), path));
            continue;
        }
        let kind = disk.attribute_node("type").ok_or("a disk without a type")?;
        edits.push((kind.range_value(), "file".to_owned()));
        for attribute in source.attributes() {
            match attribute.name() {
                "pool" => edits.push((attribute.range(), format!("file='{path}'"))),
                "volume" | "mode" => edits.push((attribute.range(), String::new())),
                _ => {}
            }
        }
    }
    if let (Some(path), Some((_, range))) = (place_of("nvram"), variables(domain)) {
        edits.push((range, escaped(path)?));
    }
    Ok(edits)
}

/// Of a description no more than what names the files.
///
/// # Errors
///
/// What comes of it would not say the same of them.
pub(super) fn only_files(xml: &str) -> Result<String, String> {
    let document = document(xml).map_err(|error| error.to_string())?;
    let domain = document.root_element();
    let whole = describe(xml)?;
    let disks: String = devices(domain, "disk").map(|disk| &xml[disk.range()]).collect();
    let os = match variables(domain) {
        Some((path, _)) => format!("<os><nvram>{}</nvram></os>", escaped(&path)?),
        None => String::new(),
    };
    let name = quoted(&whole.name);
    let less = format!("<domain><name>{name}</name>{os}<devices>{disks}</devices></domain>");
    if describe(&less)? == whole { Ok(less) } else { Err("it would say less".to_owned()) }
}

/// A path as text or value of an attribute.
pub(in crate::remediate) fn escaped(path: &Path) -> Result<String, String> {
    let text = path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?;
    Ok(quoted(text))
}

/// A text as text or value of an attribute.
pub(in crate::remediate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => quoted.push_str("&amp;"),
            '<' => quoted.push_str("&lt;"),
            '>' => quoted.push_str("&gt;"),
            '"' => quoted.push_str("&quot;"),
            '\'' => quoted.push_str("&apos;"),
            c => quoted.push(c),
        }
    }
    quoted
}

/// What a copy is called in the pool: nothing of it is chosen by whoever has made the VM.
pub(super) fn volume_name(domain: uuid::Uuid, own: &Own, number: usize) -> String {
    let target: String =
        own.target.chars().filter(char::is_ascii_alphanumeric).take(LONGEST_TARGET).collect();
    let ending = match (own.role, own.format.as_str()) {
        (Role::Variables, _) => "fd",
        (Role::Disk, "qcow2") => "qcow2",
        (Role::Disk, _) => "img",
    };
    match number {
        0 => format!("{domain}-{target}.{ending}"),
        again => format!("{domain}-{target}-{again}.{ending}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(disks: &str) -> String {
        format!("<domain type='qemu'><name>a&amp;b</name><devices>{disks}</devices></domain>")
    }

    #[test]
    fn what_moves_what_stays_and_what_is_in_the_way() {
        const FILE: &str =
            "<disk type='file'><driver type='qcow2'/><source file='/x/a b'/><target dev='vda'/>";
        let file = || Named::File("/x/a b".into());
        // (disks, own, stays, in the way)
        let cases: &[(&str, &[Named], usize, &str)] = &[
            (&format!("{FILE}</disk>"), &[file()], 0, ""),
            (&format!("{FILE}<readonly/></disk>"), &[], 1, ""),
            (&format!("{FILE}<shareable/></disk>"), &[], 0, "shared with other VMs"),
            (
                &FILE.replace("<disk", "<disk device='cdrom'").replace("vda'/>", "hda'/></disk>"),
                &[],
                1,
                "",
            ),
            ("<disk type='file' device='cdrom'><target dev='hda'/></disk>", &[], 0, ""),
            (
                "<disk type='volume'><source pool='p' volume='v'/><target dev='vda'/></disk>",
                &[Named::Volume { pool: "p".to_owned(), volume: "v".to_owned() }],
                0,
                "",
            ),
            (
                "<disk type='block'><source dev='/dev/vg/a'/><target dev='vdb'/></disk>",
                &[],
                0,
                "its disk vdb is the block device /dev/vg/a; only files",
            ),
            (
                "<disk type='network'><source protocol='rbd'/><target dev='vdb'/></disk>",
                &[],
                0,
                "(rbd)",
            ),
            ("<disk type='nvme'><target dev='vdb'/></disk>", &[], 0, "type \"nvme\""),
            ("<disk type='file'><target dev='vdb'/></disk>", &[], 0, "without a source"),
        ];
        for (disks, own, stays, against) in cases {
            let described = describe(&domain(disks)).unwrap();
            assert_eq!(described.name, "a&b");
            let sources: Vec<_> = described.own.into_iter().map(|own| own.source).collect();
            assert_eq!((sources.as_slice(), described.stays.len()), (*own, *stays), "{disks}");
            let said = described.against.join("; ");
            assert!(said.contains(against) && said.is_empty() == against.is_empty(), "{said}");
        }
        assert!(describe("<domain/>").is_err());
        assert!(describe("<domain").is_err());
    }

    /// Also where the file's name is in the text elsewhere, and would have to be escaped.
    #[test]
    fn a_description_says_the_new_places_and_is_the_same_otherwise() {
        let before = "<domain><name>w</name><os><nvram template='/t'>/n</nvram></os><devices>\
            <disk type='file'><source file=\"/n\" index='1'/><target dev='vda'/></disk>\
            <disk type='volume'><source pool='p' volume='v' mode='host'/><target dev='vdb'/></disk>\
            <disk type='file'><source file='/n'/><target dev='vdc'/><readonly/></disk></devices></domain>";
        let place = |target: &str, path: &str| (target.to_owned(), PathBuf::from(path));
        let places = [place("vda", "/q/a'&\"<"), place("vdb", "/q/b"), place("nvram", "/q/n")];
        let expect = "<domain><name>w</name><os><nvram template='/t'>/q/n</nvram></os><devices>\
            <disk type='file'><source file=\"/q/a&apos;&amp;&quot;&lt;\" index='1'/><target dev='vda'/></disk>\
            <disk type='file'><source file='/q/b'  /><target dev='vdb'/></disk>\
            <disk type='file'><source file='/n'/><target dev='vdc'/><readonly/></disk></devices></domain>";
        assert_eq!(rewrite(before, &places).unwrap(), expect);
        let newer = "<domain><name>w</name><os><nvram type='file'><source file='/n'/></nvram></os></domain>";
        let rewritten = rewrite(newer, &places[2..]).unwrap();
        assert!(rewritten.contains("<source file='/q/n'/>"), "{rewritten}");
        assert!(rewrite(before, &[place("vdz", "/q/z")]).is_err(), "no such disk");
    }

    #[test]
    fn no_password_outlasts_a_move() {
        let disk = "<disk type='volume'><source pool='p' volume='v'/><target dev='vdb'/></disk>";
        let xml = format!(
            "<domain type='kvm'><name>a&amp;b</name><os><nvram template='/t'>/n&amp;</nvram></os><devices>{disk}\
             <graphics type='vnc' passwd='secret'/></devices></domain>"
        );
        let less = only_files(&xml).unwrap();
        assert_eq!(describe(&less).unwrap(), describe(&xml).unwrap());
        assert!(less.contains(disk) && !less.contains("secret"), "{less}");
    }

    #[test]
    fn nobody_chooses_the_name_of_a_volume() {
        let own = |target: &str, role, format: &str| Own {
            target: target.to_owned(),
            role,
            source: Named::File("/x".into()),
            format: format.to_owned(),
        };
        let uuid = uuid::Uuid::nil();
        let cases = [
            (own("vda", Role::Disk, "qcow2"), 0, "-vda.qcow2"),
            (own("../../x y", Role::Disk, "raw"), 2, "-xy-2.img"),
            (own("nvram", Role::Variables, "raw"), 0, "-nvram.fd"),
        ];
        for (own, number, expect) in cases {
            assert_eq!(volume_name(uuid, &own, number), format!("{uuid}{expect}"));
        }
    }
}
