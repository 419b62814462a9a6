use std::path::Path;

use detector_core::model::{ImageFile, Medium, MediumRole, MediumSource};
use roxmltree::Node;

use super::{
    Volume, Volumes, XmlError, at, attribute, child, children, code, container, devices, text,
    unread, volume,
};

/// Each medium costs a walk and a hash; nothing boots from that many.
const MAX_MEDIA: usize = 64;

/// A backing chain in the description that is longer than this is a mistake.
const MAX_BACKING: usize = 64;

/// Everything that a domain can boot from, in boot order.
pub(super) fn media(domain: Node<'_, '_>, volumes: &Volumes) -> Result<Vec<Medium>, XmlError> {
    if container::is(domain) {
        return Ok(container::media(domain));
    }
    let os = child(domain, "os");
    let mut media = code::firmware(domain);
    media.extend(code::variables(domain));
    let kernel = code::kernel(domain);
    let direct = !kernel.is_empty();
    media.extend(kernel);

    let ordered = by_device_order(domain, volumes)?;
    if ordered.is_empty() {
        media.extend(by_class_order(domain, os, volumes)?);
    } else {
        media.extend(ordered);
    }
    if direct && code::names_its_root(domain) {
        media.extend(every_disk(domain, volumes)?);
    } else if direct {
        // The kernel mounts its root from there, whatever the boot order says.
        media.extend(first_disk(domain, &["disk", "lun"], volumes)?);
    }
    if os.and_then(|os| attribute(os, "bootmenu", "enable")) == Some("yes") {
        // Whoever sits at the console chooses, whatever the boot order says.
        media.extend(every_disk(domain, volumes)?);
        media.extend(devices(domain, "interface").filter(boots).map(network));
    }
    media.extend(unread::media(domain));

    let mut distinct: Vec<Medium> = Vec::new();
    for medium in media {
        if !distinct.contains(&medium) {
            distinct.push(medium);
        }
        if distinct.len() > MAX_MEDIA {
            return Err(at(domain, format!("it boots from more than {MAX_MEDIA} media")));
        }
    }
    Ok(distinct)
}

/// The devices with `<boot order=…>`. Where there is one, `<os><boot>` does not count.
fn by_device_order(domain: Node<'_, '_>, volumes: &Volumes) -> Result<Vec<Medium>, XmlError> {
    let mut ordered = Vec::new();
    let all = children(domain, "devices").flat_map(|devices| devices.children());
    for device in all.filter(Node::is_element) {
        let Some(order) = attribute(device, "boot", "order") else { continue };
        let order: u32 = order
            .parse()
            .map_err(|_| at(device, format!("boot order {order:?} is not a positive number")))?;
        let media = match device.tag_name().name() {
            "disk" => disk(device, volumes)?,
            "interface" => vec![network(device)],
            other => vec![remote(MediumRole::Disk, format!("a host device (<{other}>)"))],
        };
        ordered.push((order, media));
    }
    ordered.sort_by_key(|(order, _)| *order);
    Ok(ordered.into_iter().flat_map(|(_, media)| media).collect())
}

/// `<os><boot dev=…>`: each stands for the first device of its class. Libvirt reads none as a disk.
fn by_class_order(
    domain: Node<'_, '_>,
    os: Option<Node<'_, '_>>,
    volumes: &Volumes,
) -> Result<Vec<Medium>, XmlError> {
    let mut classes: Vec<_> = os.map_or_else(Vec::new, |os| {
        children(os, "boot").filter_map(|boot| boot.attribute("dev")).collect()
    });
    if classes.is_empty() {
        classes.push("hd");
    }
    let mut media = Vec::new();
    for class in classes {
        match class {
            "hd" => media.extend(first_disk(domain, &["disk", "lun"], volumes)?),
            "cdrom" => media.extend(first_disk(domain, &["cdrom"], volumes)?),
            "fd" => media.extend(first_disk(domain, &["floppy"], volumes)?),
            "network" => media.extend(devices(domain, "interface").next().map(network)),
            other => {
                let why = format!("boot device {other:?}; expected hd, cdrom, fd or network");
                return Err(at(domain, why));
            }
        }
    }
    Ok(media)
}

fn first_disk(
    domain: Node<'_, '_>,
    classes: &[&str],
    volumes: &Volumes,
) -> Result<Vec<Medium>, XmlError> {
    devices(domain, "disk")
        .find(|disk| classes.contains(&disk.attribute("device").unwrap_or("disk")))
        .map_or_else(|| Ok(Vec::new()), |one| disk(one, volumes))
}

/// The medium in a drive: none if it is empty. A backing chain that the description states is used
/// by the hypervisor in place of the one in the image, so that its end has to hold up too.
fn disk(disk: Node<'_, '_>, volumes: &Volumes) -> Result<Vec<Medium>, XmlError> {
    let role = match disk.attribute("device").unwrap_or("disk") {
        "cdrom" => MediumRole::Cdrom,
        "floppy" => MediumRole::Floppy,
        "disk" | "lun" => MediumRole::Disk,
        other => {
            let why = format!("device {other:?}; expected disk, lun, cdrom or floppy");
            return Err(at(disk, why));
        }
    };
    // Libvirt reads a disk without a stated format as raw, and tells the hypervisor so.
    let format = attribute(disk, "driver", "type").unwrap_or("raw");
    let source = match source(disk, disk.attribute("type").unwrap_or("file"), Some(format), volumes)
    {
        Some(source) => source,
        None if role == MediumRole::Disk => {
            let target = attribute(disk, "target", "dev").unwrap_or("?");
            MediumSource::Remote(format!("disk {target} without a source"))
        }
        None => return Ok(Vec::new()),
    };
    let mut media = vec![Medium { role, source }];
    let top = media.first().and_then(|top| match &top.source {
        MediumSource::File(file) => Some(file.path.clone()),
        MediumSource::Remote(_) => None,
    });
    media.extend(stated_base(disk, role, top.as_deref(), volumes)?);
    Ok(media)
}

/// The end of the chain that the description states. Of a running domain libvirt states what it has
/// found in the images.
fn stated_base(
    disk: Node<'_, '_>,
    role: MediumRole,
    top: Option<&Path>,
    volumes: &Volumes,
) -> Result<Option<Medium>, XmlError> {
    let mut base = None;
    let mut above = disk;
    for _ in 0..MAX_BACKING {
        let Some(layer) = child(above, "backingStore") else { return Ok(base) };
        // An empty element ends the chain.
        let format = attribute(layer, "format", "type");
        let kind = layer.attribute("type").unwrap_or("file");
        let Some(source) = source(layer, kind, format, volumes) else {
            return Ok(base);
        };
        base = Some(Medium { role, source: lying_beneath(source, top) });
        above = layer;
    }
    Err(at(disk, format!("more than {MAX_BACKING} backing stores")))
}

/// The source of a disk or of a layer of one.
fn source(
    node: Node<'_, '_>,
    kind: &str,
    format: Option<&str>,
    volumes: &Volumes,
) -> Option<MediumSource> {
    let source = child(node, "source")?;
    if source.attribute("fdgroup").is_some() {
        // What it is called need not be what it is.
        return Some(MediumSource::Remote("a file that was handed over open".to_owned()));
    }
    if child(source, "slices").is_some() {
        return Some(MediumSource::Remote("a slice of an image".to_owned()));
    }
    let path = match kind {
        "file" => source.attribute("file"),
        "block" => source.attribute("dev"),
        // The pool knows where it is; libvirt hands the hypervisor that file or device.
        "volume" => match volumes.get(&volume::name(source)?) {
            Some(Volume::File(path) | Volume::Block(path, _)) => Some(path.as_str()),
            _ => return Some(MediumSource::Remote(described(source, kind))),
        },
        _ => return Some(MediumSource::Remote(described(source, kind))),
    };
    path.filter(|path| !path.is_empty()).map(|path| local(path, format))
}

/// Without a medium above it on this host there is nothing beside which it may lie.
fn lying_beneath(source: MediumSource, top: Option<&Path>) -> MediumSource {
    match source {
        MediumSource::File(file) => {
            let beneath = Some(top.unwrap_or(Path::new("/")).to_path_buf());
            MediumSource::File(ImageFile { beneath, ..file })
        }
        remote => remote,
    }
}

fn described(source: Node<'_, '_>, kind: &str) -> String {
    let words = ["protocol", "name", "pool", "volume", "dir"];
    let values = words.iter().filter_map(|word| source.attribute(*word));
    std::iter::once(kind).chain(values).collect::<Vec<_>>().join(" ")
}

pub(super) fn local(path: &str, format: Option<&str>) -> MediumSource {
    if Path::new(path).is_absolute() {
        MediumSource::File(ImageFile::new(path, format))
    } else {
        MediumSource::Remote(format!("{path:?}, which is relative to a directory of its manager"))
    }
}

fn network(interface: Node<'_, '_>) -> Medium {
    let mac = attribute(interface, "mac", "address").unwrap_or("?");
    remote(MediumRole::Network, format!("network boot through {mac}"))
}

/// A file that is loaded as it is, or in the format that is stated.
pub(super) fn blob(role: MediumRole, path: &str, format: Option<&str>) -> Medium {
    Medium { role, source: local(path, Some(format.unwrap_or("raw"))) }
}

pub(super) fn remote(role: MediumRole, what: String) -> Medium {
    Medium { role, source: MediumSource::Remote(what) }
}

/// Every disk, inserted medium, memory that keeps its contents and directory that the guest could take
/// for its root.
fn every_disk(domain: Node<'_, '_>, volumes: &Volumes) -> Result<Vec<Medium>, XmlError> {
    let mut media = Vec::new();
    for drive in devices(domain, "disk") {
        media.extend(disk(drive, volumes)?);
    }
    let modules =
        devices(domain, "memory").filter_map(|module| text(child(module, "source")?, "path"));
    media.extend(modules.map(|path| blob(MediumRole::Disk, path, None)));
    let shared = devices(domain, "filesystem").map(|directory| {
        let source = attribute(directory, "source", "dir").unwrap_or("?");
        remote(MediumRole::Disk, format!("a directory of the host ({source})"))
    });
    media.extend(shared);
    Ok(media)
}

/// Without its ROM a network card boots nothing.
fn boots(interface: &Node<'_, '_>) -> bool {
    attribute(*interface, "rom", "enabled") != Some("no")
}
