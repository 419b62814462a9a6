//! The machine, as libvirt is told of it: in the name of the VM itself, so that nobody starts that meanwhile, with its
//! disks and without anything else that it has.

use std::path::Path;

use uuid::Uuid;

use super::{super::Disk, appliance::ARGUMENTS};
use crate::{
    inventory::xml::{child, document, text},
    remediate::storage::{escaped, quoted},
};

/// What it boots from.
pub(super) struct Boot<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    pub(super) memory_mib: u32,
}

/// Disks that one machine takes: from `vda` to `vdz`.
const MOST_DISKS: u8 = 26;

/// Describes it. Of the VM's own description, which somebody else has written, nothing is taken over but words that are
/// known.
///
/// # Errors
///
/// What of the VM no machine can be made for.
pub(super) fn describe(
    former: &str,
    uuid: Uuid,
    boot: &Boot<'_>,
    disks: &[Disk],
) -> Result<String, String> {
    let document = document(former).map_err(|error| error.to_string())?;
    let domain = document.root_element();
    let name = text(domain, "name").ok_or("its description has no name")?;
    let kind = domain.attribute("type").filter(|kind| matches!(*kind, "kvm" | "qemu"));
    let kind = kind.ok_or("it is no VM of QEMU's")?;
    let arch = child(domain, "os").and_then(|os| child(os, "type"));
    let arch = arch.and_then(|one| one.attribute("arch")).unwrap_or(std::env::consts::ARCH);
    let console = match arch {
        _ if arch != std::env::consts::ARCH => {
            return Err(format!(
                "it is of the architecture {arch:?}, and the kernel is this host's"
            ));
        }
        "aarch64" => "ttyAMA0",
        _ => "ttyS0",
    };
    let mut devices = String::new();
    for (letter, disk) in (b'a'..b'a' + MOST_DISKS).zip(disks) {
        let format = match disk.format.as_str() {
            known @ ("raw" | "qcow2") => known,
            other => return Err(format!("its disk {} has the format {other:?}", disk.target)),
        };
        let (file, target) = (escaped(&disk.path)?, char::from(letter));
        devices.push_str(&format!(
            "    <disk type='file' device='disk'>\n      <driver name='qemu' type='{format}'/>\n      \
             <source file='{file}'/>\n      <target dev='vd{target}' bus='virtio'/>\n    </disk>\n"
        ));
    }
    let Boot { kernel, initrd, memory_mib } = boot;
    Ok(format!(
        "<domain type='{kind}'>\n  <name>{}</name>\n  <uuid>{uuid}</uuid>\n  \
         <memory unit='MiB'>{memory_mib}</memory>\n  <vcpu>1</vcpu>\n  <os>\n    <type arch='{arch}'>hvm</type>\n    \
         <kernel>{}</kernel>\n    <initrd>{}</initrd>\n    <cmdline>console={console} {ARGUMENTS}</cmdline>\n  </os>\n  \
         <features><acpi/></features>\n  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>destroy</on_reboot>\n  \
         <on_crash>destroy</on_crash>\n  <devices>\n{devices}    <serial type='pty'/>\n    <console type='pty'/>\n    \
         <memballoon model='none'/>\n  </devices>\n</domain>\n",
        quoted(name),
        escaped(kernel)?,
        escaped(initrd)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &str, format: &str) -> Disk {
        let (target, format) = ("sda".to_owned(), format.to_owned());
        Disk { target, path: path.into(), format, sha256: None }
    }

    fn described(former: &str, disks: &[Disk]) -> Result<String, String> {
        let (kernel, initrd) = (Path::new("/pool/k"), Path::new("/pool/i"));
        let boot = Boot { kernel, initrd, memory_mib: 256 };
        describe(former, Uuid::from_u128(7), &boot, disks)
    }

    #[test]
    fn it_has_the_disks_and_nothing_else() {
        let former = "<domain type='kvm'><name>a&amp;b</name><devices><interface type='bridge'/><filesystem/>\
                      <hostdev/></devices><cpu mode='x'/></domain>";
        let said =
            described(former, &[disk("/pool/a&b", "raw"), disk("/pool/c", "qcow2")]).unwrap();
        let document = document(&said).unwrap();
        let names: Vec<_> = child(document.root_element(), "devices")
            .unwrap()
            .children()
            .filter(roxmltree::Node::is_element)
            .map(|node| node.tag_name().name().to_owned())
            .collect();
        assert_eq!(names, ["disk", "disk", "serial", "console", "memballoon"]);
        for part in ["file='/pool/a&amp;b'", "dev='vdb'", "<name>a&amp;b</name>", "type='kvm'"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        for (former, disk, expect) in [
            ("<domain type='lxc'><name>a</name></domain>", disk("/a", "raw"), "no VM of QEMU's"),
            ("<domain type='kvm'><name>a</name></domain>", disk("/a", "vmdk"), "format"),
            (
                "<domain type='kvm'><name>a</name><os><type arch='sparc'>hvm</type></os></domain>",
                disk("/a", "raw"),
                "architecture",
            ),
        ] {
            let why = described(former, &[disk]).unwrap_err();
            assert!(why.contains(expect), "{why}");
        }
    }
}
