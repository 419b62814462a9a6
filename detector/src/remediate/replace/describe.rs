//! The description of a VM that takes another one's place.
//!
//! Whoever made the other one has written its description, so that nothing is copied from it: what the new VM has to have
//! in common with it is read, judged and said anew. Everything else is as it is with any plain VM.

use std::path::PathBuf;

use detector_common::addr::Mac;
use roxmltree::Node;
use uuid::Uuid;

use crate::{
    inventory::xml::{attribute, child, children, devices, document, text},
    remediate::storage::{escaped, quoted},
};

/// Interfaces that are taken over.
const MOST_NICS: usize = 64;
/// Parameters of a filter, and VLANs of an interface.
const MOST_PARTS: usize = 1024;
/// Memory in KiB, and processors: beyond that it is no VM of this host's.
const MOST_MEMORY: u64 = 1 << 34;
const MOST_PROCESSORS: u64 = 4096;

/// What the new VM has of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct New {
    pub(super) uuid: Uuid,
    pub(super) disk: PathBuf,
    /// Where firmware's variables are, if there are any: made of the firmware's own at the first start.
    pub(super) variables: PathBuf,
    /// `raw` or `qcow2`.
    pub(super) format: String,
    pub(super) kernel: Option<PathBuf>,
    pub(super) initrd: Option<PathBuf>,
    pub(super) arguments: Option<String>,
}

/// Describes the VM that takes the place of the one that is described so.
///
/// # Errors
///
/// What of it cannot be taken over.
pub(super) fn successor(former: &str, new: &New) -> Result<String, String> {
    let document = document(former).map_err(|error| error.to_string())?;
    let domain = document.root_element();
    let name = text(domain, "name").ok_or("it has no name")?;
    let kind = domain.attribute("type").filter(|kind| matches!(*kind, "kvm" | "qemu"));
    let kind = kind.ok_or("it is no VM of QEMU's")?;
    let memory = memory(domain)?;
    let processors: u64 = text(domain, "vcpu").unwrap_or("1").parse().map_err(|_| "<vcpu>")?;
    if processors == 0 || processors > MOST_PROCESSORS {
        return Err(format!("it has {processors} processors"));
    }
    let os = child(domain, "os").ok_or("it has no <os>")?;
    let machine = child(os, "type").ok_or("it has no <os><type>")?;
    let word = |name: &str| machine.attribute(name).map(|value| plain(value, name)).transpose();
    let arch = word("arch")?.unwrap_or("x86_64");
    let machine = word("machine")?.map_or_else(String::new, |one| format!(" machine='{one}'"));
    let nics = devices(domain, "interface").take(MOST_NICS + 1).collect::<Vec<_>>();
    if nics.is_empty() || nics.len() > MOST_NICS {
        return Err(format!("it has no interface, or more than {MOST_NICS}"));
    }
    let nics = nics.into_iter().map(interface).collect::<Result<String, _>>()?;
    let efi = os.attribute("firmware") == Some("efi")
        || attribute(os, "loader", "type") == Some("pflash");
    let firmware = if efi { " firmware='efi'" } else { "" };
    let mut boot = direct(new)?;
    if efi {
        // libvirt's own place goes by the name of the VM, and what the former one has written is there.
        let variables = escaped(&new.variables)?;
        boot.insert_str(0, &format!("    <nvram>{variables}</nvram>\n"));
    }
    let cpu = if kind == "kvm" { "  <cpu mode='host-model'/>\n" } else { "" };
    let disk = escaped(&new.disk)?;
    let format = plain(&new.format, "format")?;
    Ok(format!(
        "<domain type='{kind}'>\n  <name>{}</name>\n  <uuid>{}</uuid>\n  <memory unit='KiB'>{memory}</memory>\n  \
         <vcpu>{processors}</vcpu>\n  <os{firmware}>\n    <type arch='{arch}'{machine}>hvm</type>\n{boot}  </os>\n  \
         <features><acpi/></features>\n{cpu}  <devices>\n    <disk type='file' device='disk'>\n      \
         <driver name='qemu' type='{format}'/>\n      <source file='{disk}'/>\n      <target dev='vda' bus='virtio'/>\n    \
         </disk>\n{nics}    <console type='pty'/>\n  </devices>\n</domain>\n",
        quoted(name),
        new.uuid,
    ))
}

/// The former VM as it is kept: it has no interface, so that it speaks under no MAC of the new one's, whoever starts it.
///
/// # Errors
///
/// It is no description.
pub(super) fn archived(former: &str, name: &str) -> Result<String, String> {
    let document = document(former).map_err(|error| error.to_string())?;
    let domain = document.root_element();
    let named = child(domain, "name").ok_or("it has no name")?;
    let mut edits: Vec<_> =
        devices(domain, "interface").map(|one| (one.range(), String::new())).collect();
    edits.push((named.range(), format!("<name>{}</name>", quoted(name))));
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut text = former.to_owned();
    for (range, new) in edits {
        text.replace_range(range, &new);
    }
    Ok(text)
}

fn direct(new: &New) -> Result<String, String> {
    let mut text = String::new();
    for (tag, path) in [("kernel", &new.kernel), ("initrd", &new.initrd)] {
        if let Some(path) = path {
            text.push_str(&format!("    <{tag}>{}</{tag}>\n", escaped(path)?));
        }
    }
    if let (Some(arguments), Some(_)) = (&new.arguments, &new.kernel) {
        text.push_str(&format!("    <cmdline>{}</cmdline>\n", quoted(arguments)));
    }
    Ok(text)
}

/// In KiB; libvirt says it so.
fn memory(domain: Node<'_, '_>) -> Result<u64, String> {
    let node = child(domain, "memory").ok_or("it has no <memory>")?;
    let unit = match node.attribute("unit").unwrap_or("KiB") {
        "KiB" | "k" => 1,
        "MiB" | "M" => 1 << 10,
        "GiB" | "G" => 1 << 20,
        other => return Err(format!("its memory is given in {other:?}")),
    };
    let said = node.text().and_then(|text| text.trim().parse::<u64>().ok());
    let memory = said.and_then(|said| said.checked_mul(unit)).ok_or("its <memory> is no number")?;
    if memory == 0 || memory > MOST_MEMORY {
        return Err(format!("it has {memory} KiB of memory"));
    }
    Ok(memory)
}

/// An interface with the same MAC on the same network.
fn interface(nic: Node<'_, '_>) -> Result<String, String> {
    let said = attribute(nic, "mac", "address").ok_or("an interface without a MAC")?;
    let mac: Mac = said.parse().map_err(|error| format!("{said:?} is {error}"))?;
    let kind = nic.attribute("type").unwrap_or_default();
    let names: &[&str] = match kind {
        "bridge" => &["bridge"],
        "network" => &["network", "portgroup"],
        "direct" => &["dev", "mode"],
        other => {
            return Err(format!("the interface {mac} is of the type {other:?}, on no network"));
        }
    };
    let mut text =
        format!("    <interface type='{kind}'>\n      <mac address='{mac}'/>\n      <source");
    for name in names {
        if let Some(value) = attribute(nic, "source", name) {
            text.push_str(&format!(" {name}='{}'", quoted(value)));
        }
    }
    text.push_str("/>\n");
    if let Some(port) = child(nic, "virtualport") {
        let kind = port.attribute("type").filter(|kind| *kind == "openvswitch");
        kind.ok_or_else(|| format!("the interface {mac} has a virtual port of another switch"))?;
        text.push_str("      <virtualport type='openvswitch'/>\n");
    }
    if let Some(vlan) = child(nic, "vlan") {
        let trunk = if vlan.attribute("trunk") == Some("yes") { " trunk='yes'" } else { "" };
        text.push_str(&format!("      <vlan{trunk}>"));
        for tag in children(vlan, "tag").take(MOST_PARTS) {
            let id: u16 = tag.attribute("id").and_then(|id| id.parse().ok()).ok_or("a VLAN")?;
            let native = matches!(tag.attribute("nativeMode"), Some("untagged"));
            let native = if native { " nativeMode='untagged'" } else { "" };
            text.push_str(&format!("<tag id='{id}'{native}/>"));
        }
        text.push_str("</vlan>\n");
    }
    if let Some(filter) = child(nic, "filterref") {
        let name = quoted(filter.attribute("filter").unwrap_or_default());
        text.push_str(&format!("      <filterref filter='{name}'>"));
        for parameter in children(filter, "parameter").take(MOST_PARTS) {
            let of = |name: &str| quoted(parameter.attribute(name).unwrap_or_default());
            text.push_str(&format!("<parameter name='{}' value='{}'/>", of("name"), of("value")));
        }
        text.push_str("</filterref>\n");
    }
    let model = plain(attribute(nic, "model", "type").unwrap_or("virtio"), "model")?;
    text.push_str(&format!("      <model type='{model}'/>\n"));
    if attribute(nic, "rom", "enabled") == Some("no") {
        text.push_str("      <rom enabled='no'/>\n");
    }
    if attribute(nic, "port", "isolated") == Some("yes") {
        text.push_str("      <port isolated='yes'/>\n");
    }
    text.push_str("    </interface>\n");
    Ok(text)
}

fn plain<'a>(value: &'a str, what: &str) -> Result<&'a str, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    if !value.is_empty() && value.len() <= 64 && value.chars().all(is_plain) {
        Ok(value)
    } else {
        Err(format!("its {what} is {value:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMER: &str = "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>a&amp;b</name>\
        <uuid>00000000-0000-0000-0000-000000000007</uuid><memory unit='KiB'>131072</memory><vcpu>2</vcpu>\
        <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type><kernel>/evil</kernel><cmdline>init=/bin/sh</cmdline></os>\
        <devices><emulator>/home/evil</emulator><disk type='file'><source file='/rogue'/><target dev='vda'/></disk>NIC\
        <hostdev/></devices><qemu:commandline><qemu:arg value='-s'/></qemu:commandline></domain>";
    const NIC: &str = "<interface type='bridge'><mac address='52:54:00:00:00:1f'/><source bridge='br0'/>\
        <script path='/home/evil'/><target dev='vnet7'/><vlan><tag id='7'/></vlan>\
        <filterref filter='clean-traffic'><parameter name='IP' value='192.0.2.7'/></filterref><model type='virtio'/>\
        </interface>";

    fn new() -> New {
        New {
            uuid: Uuid::from_u128(8),
            disk: "/pool/it's".into(),
            variables: "/pool/8_VARS.fd".into(),
            format: "qcow2".to_owned(),
            kernel: None,
            initrd: None,
            arguments: Some("never".to_owned()),
        }
    }

    #[test]
    fn what_is_in_common_is_said_anew_and_nothing_else_is_taken_over() {
        let text = successor(&FORMER.replace("NIC", NIC), &new()).unwrap();
        let domain = document(&text).unwrap();
        let domain = domain.root_element();
        let said = |tag: &str| super::text(domain, tag).unwrap().to_owned();
        assert_eq!(said("name"), "a&b");
        assert_eq!(said("uuid"), Uuid::from_u128(8).to_string());
        assert_eq!((said("memory").as_str(), said("vcpu").as_str()), ("131072", "2"));
        for part in [
            "<source file='/pool/it&apos;s'/>",
            "<mac address='52:54:00:00:00:1f'/>",
            "<source bridge='br0'/>",
            "<vlan><tag id='7'/></vlan>",
            "<parameter name='IP' value='192.0.2.7'/>",
            "machine='pc-i440fx-7.2'",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for part in ["evil", "rogue", "script", "vnet7", "hostdev", "commandline", "never", "init="]
        {
            assert!(!text.contains(part), "{part}: {text}");
        }
        let direct = New { kernel: Some("/k".into()), initrd: Some("/i".into()), ..new() };
        let text = successor(&FORMER.replace("NIC", NIC), &direct).unwrap();
        assert!(text.contains("<kernel>/k</kernel>") && text.contains("<cmdline>never</cmdline>"));
        assert!(!text.contains("nvram"), "{text}");
    }

    #[test]
    fn firmware_has_variables_of_its_own() {
        let former = FORMER.replace("NIC", NIC);
        let explicit = "<os><loader type='pflash'>/evil</loader><nvram>/rogue_VARS.fd</nvram>";
        for efi in ["<os firmware='efi'>", explicit] {
            let text = successor(&former.replace("<os>", efi), &new()).unwrap();
            assert!(text.contains("<os firmware='efi'>"), "{text}");
            assert!(text.contains("<nvram>/pool/8_VARS.fd</nvram>"), "{text}");
            assert!(!text.contains("rogue_VARS") && !text.contains("evil"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_taken_over_is_named() {
        let whole = FORMER.replace("NIC", NIC);
        let cases = [
            (FORMER.replace("NIC", ""), "no interface"),
            (whole.replace("type='bridge'", "type='user'"), "\"user\", on no network"),
            (whole.replace("52:54:00:00:00:1f", "52:54"), "52:54"),
            (whole.replace("<domain type='qemu'", "<domain type='lxc'"), "no VM of QEMU's"),
            (whole.replace(">131072<", ">99999999999<"), "KiB of memory"),
            (whole.replace(">2</vcpu>", ">0</vcpu>"), "processors"),
            (whole.replace("pc-i440fx-7.2", "pc' x='"), "no description"),
            (whole.replace("type='virtio'", "type='a b'"), "its model"),
            (whole.replace("<vlan>", "<virtualport type='802.1Qbh'/><vlan>"), "another switch"),
        ];
        for (former, expect) in cases {
            let error = match successor(&former, &new()) {
                Err(error) => error,
                // An attribute that ends another one is none of the machine's.
                Ok(text) => {
                    assert!(expect == "no description" && text.contains("machine='pc'"), "{text}");
                    continue;
                }
            };
            assert!(error.contains(expect) || expect == "no description", "{expect}: {error}");
        }
    }

    #[test]
    fn the_archived_one_has_another_name_and_no_interface() {
        let text = archived(&FORMER.replace("NIC", NIC), "a&b-rogue").unwrap();
        assert!(
            text.contains("<name>a&amp;b-rogue</name>") && !text.contains("<interface"),
            "{text}"
        );
        assert!(text.contains("/rogue"), "its disks stay its own");
        document(&text).unwrap();
    }
}
