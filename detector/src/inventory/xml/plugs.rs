//! What the NICs of a domain speak into, as libvirt has settled it when it runs its hook.

use std::collections::BTreeSet;

use roxmltree::Node;

use super::{MAX_NODES, attribute, devices, open, unread};

/// Names of what is between the NICs of one VM and everybody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plugs {
    pub(crate) bridges: BTreeSet<String>,
    /// What macvtaps are on.
    pub(crate) devices: BTreeSet<String>,
}

/// What is plugged in where; `None` where that cannot be told, so that it may be anywhere.
pub(crate) fn plugs(xml: &str) -> Option<Plugs> {
    let document = open(xml, MAX_NODES).ok()?;
    let domain = document.root_element();
    // Words for QEMU itself can make interfaces, and a script can put them anywhere.
    if !domain.has_tag_name("domain") || !unread::qemu_words(domain).is_empty() {
        return None;
    }
    let mut found = Plugs::default();
    for interface in devices(domain, "interface") {
        let source = |name: &str| attribute(interface, "source", name).map(str::to_owned);
        match interface.attribute("type")? {
            // Of a network the bridge is that of libvirt's own, or the one that the network is for.
            "bridge" | "network" => drop(found.bridges.insert(source("bridge")?)),
            "direct" if is_shared(interface) => drop(found.devices.insert(source("dev")?)),
            // Neither is in a bridge, and none has a gate.
            "direct" | "hostdev" | "user" | "vhostuser" | "vdpa" | "null" | "server" | "client"
            | "mcast" | "udp" => {}
            _ => return None,
        }
    }
    Some(found)
}

/// Whether others are on the device of a macvtap too; without a mode they are.
fn is_shared(interface: Node<'_, '_>) -> bool {
    attribute(interface, "source", "mode") != Some("passthrough")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plugged_in_where() {
        let nic = |kind: &str, source: &str| {
            format!("<devices><interface type='{kind}'><source {source}/></interface></devices>")
        };
        let both = nic("bridge", "bridge='br0'") + &nic("direct", "dev='eth0' mode='bridge'");
        let words = "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>\
                     <q:arg value='-netdev'/></q:commandline>";
        let cases: [(String, Option<[&str; 2]>); 13] = [
            (String::new(), Some(["", ""])),
            (both, Some(["br0", "eth0"])),
            (nic("network", "network='a' bridge='virbr0'"), Some(["virbr0", ""])),
            (nic("network", "network='a'"), None),
            (nic("bridge", "network='a'"), None),
            (nic("direct", "dev='eth0'"), Some(["", "eth0"])),
            (nic("direct", "dev='eth0' mode='passthrough'"), Some(["", ""])),
            (nic("user", ""), Some(["", ""])),
            (nic("ethernet", ""), None),
            (nic("something new", ""), None),
            // Metadata say nothing.
            (format!("<metadata>{}</metadata>", nic("ethernet", "")), Some(["", ""])),
            (words.to_owned(), None),
            ("<oops>".to_owned(), None),
        ];
        for (inside, expect) in cases {
            let found = plugs(&format!("<domain>{inside}</domain>"));
            let expect = expect.map(|names| {
                let [bridges, devices] =
                    names.map(|names| names.split_whitespace().map(str::to_owned).collect());
                Plugs { bridges, devices }
            });
            assert_eq!(found, expect, "{inside}");
        }
        assert_eq!(plugs("<network/>"), None);
    }
}
