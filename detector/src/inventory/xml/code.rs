//! What runs in a VM before or beside what it boots: firmware, kernels, tables and settings.

use detector_core::model::{Medium, MediumRole};
use roxmltree::Node;

use super::{
    attribute, child, children,
    media::{blob, remote},
    text,
};

/// What the firmware is made of, in the order in which it comes into play.
pub(super) fn firmware(domain: Node<'_, '_>) -> Vec<Medium> {
    let os = child(domain, "os");
    let file = |path| blob(MediumRole::Firmware, path, None);
    let mut media = Vec::new();
    if let Some(os) = os {
        if let Some(loader) = child(os, "loader") {
            let path = loader.text().map(str::trim).filter(|path| !path.is_empty());
            let format = loader.attribute("format");
            media.extend(path.map(|path| blob(MediumRole::Firmware, path, format)));
        }
        // The variables themselves are the guest's to write; what they are made from is not, and
        // brings along the keys that secure boot goes by.
        for variables in ["nvram", "varstore"].iter().filter_map(|tag| child(os, tag)) {
            let template = variables.attribute("template");
            let format = variables.attribute("templateFormat");
            media.extend(template.map(|path| blob(MediumRole::Firmware, path, format)));
        }
        media.extend(text(os, "dtb").map(file));
        // Tables contain code that the guest's kernel runs.
        let tables = child(os, "acpi").into_iter().flat_map(|acpi| children(acpi, "table"));
        media.extend(tables.filter_map(|table| table.text()).map(|path| file(path.trim())));
    }
    if let Some(loader) = text(domain, "bootloader") {
        let what = format!("a boot loader that the host runs ({loader})");
        media.push(remote(MediumRole::Firmware, what));
    }
    media.extend(option_roms(domain));
    media.extend(settings(domain));
    media
}

/// Where the firmware keeps its variables: boot entries, and the keys that secure boot goes by.
pub(super) fn variables(domain: Node<'_, '_>) -> Vec<Medium> {
    let Some(os) = child(domain, "os") else { return Vec::new() };
    let role = MediumRole::Variables;
    let nvram = child(os, "nvram").and_then(|nvram| {
        let format = nvram.attribute("format");
        let source = child(nvram, "source");
        let kind = nvram.attribute("type").unwrap_or("file");
        let path = match (kind, source) {
            ("file", None) => nvram.text().map(str::trim).filter(|path| !path.is_empty()),
            ("file", Some(source)) => source.attribute("file"),
            ("block", Some(source)) => source.attribute("dev"),
            _ => return Some(remote(role, format!("variables of the kind {kind}"))),
        };
        // Without one libvirt has not said yet where it puts them.
        path.map(|path| blob(role, path, format))
    });
    let varstore = child(os, "varstore").and_then(|store| store.attribute("path"));
    nvram.into_iter().chain(varstore.map(|path| blob(role, path, None))).collect()
}

/// Kernel and all that comes with it; empty where the VM's firmware looks for one itself.
pub(super) fn kernel(domain: Node<'_, '_>) -> Vec<Medium> {
    let Some(os) = child(domain, "os") else { return Vec::new() };
    let parts = [
        (MediumRole::Kernel, "kernel"),
        (MediumRole::Kernel, "shim"),
        (MediumRole::Initrd, "initrd"),
    ];
    let parts = parts.into_iter().filter_map(|(role, tag)| Some(blob(role, text(os, tag)?, None)));
    parts.collect()
}

/// Whether a kernel is told where its root is: it may be anywhere, for names, labels and the order of
/// disks are whoever's who describes the VM.
pub(super) fn names_its_root(domain: Node<'_, '_>) -> bool {
    let arguments = child(domain, "os").and_then(|os| text(os, "cmdline")).unwrap_or_default();
    let word = |word: &str| {
        let word = word.trim_matches('"');
        ["root=", "rootfstype=", "nfsroot=", "init=", "rdinit="]
            .iter()
            .any(|key| word.starts_with(key))
    };
    arguments.split_whitespace().any(word)
}

/// Code of devices that the firmware runs before it boots anything.
fn option_roms(domain: Node<'_, '_>) -> Vec<Medium> {
    children(domain, "devices")
        .flat_map(|devices| devices.children())
        .filter_map(|device| attribute(device, "rom", "file"))
        .map(|path| blob(MediumRole::Firmware, path, None))
        .collect()
}

/// Files that are handed to firmware and guest as they are: configurations that a first boot obeys.
fn settings(domain: Node<'_, '_>) -> Vec<Medium> {
    children(domain, "sysinfo")
        .filter(|sysinfo| sysinfo.attribute("type") == Some("fwcfg"))
        .flat_map(|sysinfo| children(sysinfo, "entry"))
        .filter_map(|entry| entry.attribute("file"))
        .map(|path| blob(MediumRole::Firmware, path, None))
        .collect()
}
