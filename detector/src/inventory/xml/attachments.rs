//! Ways out of a VM on which no guard can be.

use detector_core::model::{Attachment, AttachmentKind};
use roxmltree::Node;

use super::{attribute, child, container, devices};
use crate::processes::arguments;

/// Attachments of one VM that are listed.
const MOST: usize = 64;

/// The ways out of the domain that its description lists and no guard can hold.
pub(super) fn attachments(domain: Node<'_, '_>) -> Vec<Attachment> {
    let mut ways: Vec<_> = devices(domain, "interface").filter_map(interface).collect();
    ways.extend(devices(domain, "hostdev").filter_map(host_device));
    ways.extend(container::shared_network(domain));
    ways.extend(arguments::further(&super::unread::qemu_words(domain)));
    ways.sort();
    ways.dedup();
    ways.truncate(MOST);
    ways
}

/// The way out that an interface is, where no guard can be on it.
pub(super) fn interface(interface: Node<'_, '_>) -> Option<Attachment> {
    use AttachmentKind::{Macvtap, Passthrough, Socket, Unbridged, UserMode, VhostUser};
    let kind = interface.attribute("type").unwrap_or_default();
    let source = |name| attribute(interface, "source", name);
    let mac = attribute(interface, "mac", "address").unwrap_or("?");
    let backend = attribute(interface, "backend", "type");
    let (way, how) = match kind {
        "hostdev" => (Passthrough, pci(interface).unwrap_or_default()),
        "user" => (UserMode, backend.unwrap_or("slirp").to_owned()),
        "vhostuser" => (VhostUser, source("path").unwrap_or_default().to_owned()),
        "vdpa" => (VhostUser, source("dev").unwrap_or_default().to_owned()),
        "server" | "client" | "mcast" | "udp" => {
            let place = [source("address"), source("port")];
            (Socket, place.into_iter().flatten().collect::<Vec<_>>().join(":"))
        }
        "vmware" | "null" | "vds" => (Unbridged, String::new()),
        // In the other modes the macvtap has a guard; here the guest has the device to itself.
        "direct" if source("mode") == Some("passthrough") => {
            (Macvtap, source("dev").unwrap_or_default().to_owned())
        }
        _ => return None,
    };
    let mode = source("mode").map(|mode| format!(" ({mode})")).unwrap_or_default();
    let what = format!("{mac} {kind} {how}{mode}");
    Some(Attachment { kind: way, what: what.trim_end().chars().take(160).collect() })
}

/// A device of the host that the VM drives itself: it may be a network card.
fn host_device(device: Node<'_, '_>) -> Option<Attachment> {
    let kind = device.attribute("type").unwrap_or_default();
    let what = match kind {
        "pci" => format!("PCI device {}", pci(device).unwrap_or_default()),
        "usb" => "a USB device".to_owned(),
        "mdev" => "a mediated device".to_owned(),
        // Network interfaces of the host that a container gets.
        "net" => "an interface of the host".to_owned(),
        _ => return None,
    };
    Some(Attachment { kind: AttachmentKind::Passthrough, what })
}

/// The address of a PCI device, as the host's tools write it.
pub(super) fn pci(device: Node<'_, '_>) -> Option<String> {
    let address = child(child(device, "source")?, "address")?;
    let part = |name: &str| {
        let text = address.attribute(name)?.trim_start_matches("0x");
        u32::from_str_radix(text, 16).ok()
    };
    let (domain, bus, slot) = (part("domain").unwrap_or(0), part("bus")?, part("slot")?);
    Some(format!("{domain:04x}:{bus:02x}:{slot:02x}.{}", part("function").unwrap_or(0)))
}
