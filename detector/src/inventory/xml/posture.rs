//! What a domain's description says of the machine that its guest runs on.

use std::collections::BTreeMap;

use detector_core::model::{Firmware, LaunchSecurity, Posture, TpmKind};
use roxmltree::Node;

use super::{attachments::pci, attribute, child, children, container, devices, text};

/// Entries of one list, and kinds of devices.
const MOST: usize = 64;

/// Characters of a text.
const LONGEST: usize = 160;

pub(super) fn posture(domain: Node<'_, '_>) -> Posture {
    let os = child(domain, "os");
    let kind = os.and_then(|os| child(os, "type"));
    let of_type = |name| kind.and_then(|kind| kind.attribute(name)).map(bounded);
    let virtual_machine = text_of(kind) == Some("hvm");
    let architecture = of_type("arch");
    let (tpm, tpm_version) = tpm(domain);
    let firmware =
        os.filter(|_| virtual_machine).and_then(|os| firmware(os, architecture.as_deref()));
    Posture {
        firmware,
        stored_variables: os.and_then(|os| stored_variables(os, firmware)),
        secure_boot: os.filter(|_| virtual_machine).and_then(secure_boot),
        tpm: Some(tpm),
        tpm_version,
        launch_security: Some(launch_security(domain)),
        architecture,
        machine: of_type("machine"),
        emulator: child(domain, "devices").and_then(|all| text(all, "emulator")).map(bounded),
        kernel_arguments: container::init(domain)
            .or_else(|| Some(text(os?, "cmdline")?.to_owned()))
            .map(|arguments| bounded(&arguments)),
        host_devices: Some(host_devices(domain)),
        shared_memory: Some(shared_memory(domain)),
        shared_directories: Some(shared_directories(domain)),
        devices: Some(kinds(domain)),
        raw_arguments: Some(super::unread::is_any(domain)),
    }
}

fn firmware(os: Node<'_, '_>, architecture: Option<&str>) -> Option<Firmware> {
    let loader = child(os, "loader");
    match (os.attribute("firmware"), loader.and_then(|loader| loader.attribute("type"))) {
        (Some("efi"), _) => Some(Firmware::Efi),
        (Some("bios"), _) => Some(Firmware::Bios),
        (Some(_), _) => None,
        // Flash with variables is how EFI comes; a ROM may be either.
        (None, Some("pflash")) => Some(Firmware::Efi),
        (None, _) if text_of(loader).is_some() => None,
        (None, _) => matches!(architecture, Some("x86_64" | "i686")).then_some(Firmware::Bios),
    }
}

/// Where EFI keeps its variables there is a file that is there before the guest, and no digest covers it.
fn stored_variables(os: Node<'_, '_>, firmware: Option<Firmware>) -> Option<bool> {
    let named = ["nvram", "varstore"].iter().any(|tag| child(os, tag).is_some());
    let stateless = child(os, "loader").and_then(|loader| loader.attribute("stateless"));
    match firmware {
        _ if named => Some(true),
        Some(Firmware::Bios) => Some(false),
        Some(Firmware::Efi) => Some(stateless != Some("yes")),
        None => None,
    }
}

/// The loader's attribute `secure` says what the firmware is able to do, and nothing about keys.
fn secure_boot(os: Node<'_, '_>) -> Option<bool> {
    let feature = |name: &str| {
        let mut features = children(child(os, "firmware")?, "feature");
        let found = features.find(|feature| feature.attribute("name") == Some(name))?;
        Some(found.attribute("enabled") == Some("yes"))
    };
    let loader = child(os, "loader");
    let able = loader.and_then(|loader| loader.attribute("secure")).map(|able| able == "yes");
    let efi = os.attribute("firmware") == Some("efi");
    let flash = loader.is_some_and(|loader| loader.attribute("type") == Some("pflash"));
    match (able, feature("secure-boot"), feature("enrolled-keys")) {
        _ if !efi && !flash => text_of(loader).is_none().then_some(false),
        (Some(false), ..) | (_, Some(false), _) | (.., Some(false)) => Some(false),
        (_, Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn tpm(domain: Node<'_, '_>) -> (TpmKind, Option<String>) {
    let Some(tpm) = devices(domain, "tpm").next() else { return (TpmKind::Absent, None) };
    let version = attribute(tpm, "backend", "version").map(bounded);
    let kind = match attribute(tpm, "backend", "type") {
        Some("emulator") => TpmKind::Emulator,
        Some("passthrough") => TpmKind::Passthrough,
        _ => TpmKind::External,
    };
    (kind, version)
}

fn launch_security(domain: Node<'_, '_>) -> LaunchSecurity {
    let Some(launch) = child(domain, "launchSecurity") else { return LaunchSecurity::Absent };
    match launch.attribute("type") {
        Some("sev") => LaunchSecurity::Sev,
        Some("sev-snp") => LaunchSecurity::SevSnp,
        Some("tdx") => LaunchSecurity::Tdx,
        Some("s390-pv") => LaunchSecurity::S390Pv,
        _ => LaunchSecurity::Other,
    }
}

fn host_devices(domain: Node<'_, '_>) -> Vec<String> {
    let hostdevs = devices(domain, "hostdev").map(|device| host_device(device, "hostdev"));
    let interfaces = devices(domain, "interface")
        .filter(|interface| matches!(interface.attribute("type"), Some("hostdev" | "vdpa")))
        .map(|interface| host_device(interface, "interface"));
    let redirected = devices(domain, "redirdev")
        .map(|device| format!("usb redirected by {}", device.attribute("type").unwrap_or("?")));
    let cards = devices(domain, "smartcard")
        .filter(|card| card.attribute("mode") != Some("passthrough"))
        .map(|card| format!("smartcard {}", card.attribute("mode").unwrap_or("?")));
    // A disk of these kinds takes commands that reach the device itself.
    let disks = devices(domain, "disk")
        .filter(|disk| {
            disk.attribute("type") == Some("nvme") || disk.attribute("device") == Some("lun")
        })
        .map(|disk| {
            let source = attribute(disk, "source", "dev").unwrap_or("?");
            format!("disk {} {source}", disk.attribute("type").unwrap_or("?"))
        });
    listed(hostdevs.chain(interfaces).chain(redirected).chain(cards).chain(disks))
}

fn host_device(device: Node<'_, '_>, element: &str) -> String {
    let kind = device.attribute("type").unwrap_or(element);
    let source = child(device, "source");
    let address = source.and_then(|source| child(source, "address"));
    let usb = || {
        let part = |name| attribute(source?, name, "id").map(|id| id.trim_start_matches("0x"));
        Some(format!("{}:{}", part("vendor")?, part("product")?))
    };
    let which = pci(device)
        .or_else(usb)
        .or_else(|| address?.attribute("uuid").map(str::to_owned))
        .or_else(|| source?.attribute("dev").map(str::to_owned))
        .or_else(|| attribute(source?, "adapter", "name").map(str::to_owned))
        .unwrap_or_default();
    format!("{kind} {which}")
}

fn shared_memory(domain: Node<'_, '_>) -> Vec<String> {
    let shmem = devices(domain, "shmem").map(|device| {
        let model = attribute(device, "model", "type").unwrap_or("ivshmem");
        format!("{model} {}", device.attribute("name").unwrap_or("?"))
    });
    let backing = child(domain, "memoryBacking");
    let shared =
        backing.is_some_and(|backing| attribute(backing, "access", "mode") == Some("shared"));
    let backing = backing.filter(|_| shared).map(|backing| {
        format!("{} shared", attribute(backing, "source", "type").unwrap_or("memory"))
    });
    let cells = child(domain, "cpu").and_then(|cpu| child(cpu, "numa"));
    let cells = cells.into_iter().flat_map(|numa| children(numa, "cell"));
    let cells = cells
        .filter(|cell| cell.attribute("memAccess") == Some("shared"))
        .map(|cell| format!("NUMA cell {} shared", cell.attribute("id").unwrap_or("?")));
    let modules = devices(domain, "memory")
        .filter(|module| module.attribute("access") == Some("shared"))
        .map(|module| format!("{} shared", module.attribute("model").unwrap_or("module")));
    listed(shmem.chain(backing).chain(cells).chain(modules))
}

fn shared_directories(domain: Node<'_, '_>) -> Vec<String> {
    listed(devices(domain, "filesystem").map(|directory| {
        let kind = directory.attribute("type").filter(|_| container::is(domain));
        let driver = kind.or(attribute(directory, "driver", "type")).unwrap_or("9p");
        let source = child(directory, "source");
        let source = source.and_then(|source| {
            source.attribute("dir").or(source.attribute("socket")).or(source.attribute("file"))
        });
        format!("{driver} {}", source.unwrap_or("?"))
    }))
}

/// `<emulator>` is no device, and of a controller or a lease the guest sees only what hangs on it.
fn kinds(domain: Node<'_, '_>) -> BTreeMap<String, u32> {
    let mut kinds = BTreeMap::new();
    let all = children(domain, "devices").flat_map(|devices| devices.children());
    for device in all.filter(Node::is_element) {
        let kind = device.tag_name().name();
        if matches!(kind, "emulator" | "controller" | "lease") {
            continue;
        }
        if kinds.len() < MOST || kinds.contains_key(kind) {
            let count: &mut u32 = kinds.entry(bounded(kind)).or_default();
            *count = count.saturating_add(1);
        }
    }
    kinds
}

fn listed(entries: impl Iterator<Item = String>) -> Vec<String> {
    entries.take(MOST).map(|entry| bounded(entry.trim_end())).collect()
}

fn text_of<'a>(node: Option<Node<'a, '_>>) -> Option<&'a str> {
    node?.text().map(str::trim).filter(|text| !text.is_empty())
}

fn bounded(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests;
