//! Libvirt's description of a domain (<https://libvirt.org/formatdomain.html>).
//!
//! Whoever defines a VM writes this text. Size and number of nodes are bounded, entities are not
//! expanded, and what cannot be understood refuses the VM rather than leaving something out.

mod attachments;
mod code;
mod container;
mod context;
mod media;
mod metadata;
mod network;
pub(crate) mod plugs;
pub(super) mod pool;
mod posture;
mod shape;
mod unread;
pub(crate) mod volume;

use std::fmt;

use detector_core::model::{
    AddressRule, ImageFile, Medium, MediumRole, MediumSource, Nic, PowerState, Vm,
};
use ipnet::IpNet;
use roxmltree::{Document, Node, ParsingOptions};
use uuid::Uuid;

use super::nic;
pub use context::{Context, Shared};
pub use metadata::MetadataTrust;
pub use network::Network;
pub use volume::{Volume, VolumeName, Volumes};

/// The largest description that is read; libvirt's own limit is of that order.
pub const MAX_BYTES: usize = 4 << 20;

/// A VM of a hundred devices has about two thousand nodes.
const MAX_NODES: u32 = 200_000;

/// More than a virtual machine has slots for.
const MAX_NICS: usize = 256;

const MAX_NAME: usize = 1024;

/// Why a description is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct XmlError {
    /// Line and column from 1, where there is a place.
    pub position: Option<(u32, u32)>,
    pub message: String,
}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Reads the description of a domain. The text does not say whether it runs: `power` does.
pub fn parse(xml: &str, power: PowerState, context: &Context) -> Result<Vm, XmlError> {
    let document = open(xml, MAX_NODES)?;
    let domain = document.root_element();
    if !domain.has_tag_name("domain") {
        return Err(at(domain, "expected the element <domain>"));
    }
    let name = text(domain, "name").ok_or_else(|| at(domain, "the domain has no <name>"))?;
    if name.len() > MAX_NAME {
        return Err(at(domain, format!("the name is longer than {MAX_NAME} bytes")));
    }
    let uuid = text(domain, "uuid").ok_or_else(|| at(domain, "the domain has no <uuid>"))?;
    let uuid =
        Uuid::try_parse(uuid).map_err(|_| at(domain, format!("the <uuid> {uuid:?} is not one")))?;
    let mut vm = Vm {
        uuid,
        name: name.to_owned(),
        power,
        run: domain.attribute("id").and_then(|id| id.parse().ok()),
        nics: nics(domain, context)?,
        media: snapshots(media::media(domain, &context.volumes)?, context),
        declared_template: None,
        attachments: attachments::attachments(domain),
        posture: posture::posture(domain),
        presumed: Vec::new(),
    };
    metadata::apply(domain, context.metadata, &mut vm)?;
    Ok(vm)
}

/// Says of disks that are snapshots what they are snapshots of. One that is read as an image of another
/// format is what is in it.
fn snapshots(mut media: Vec<Medium>, context: &Context) -> Vec<Medium> {
    for medium in media.iter_mut().filter(|medium| medium.role == MediumRole::Disk) {
        let MediumSource::File(file) = &mut medium.source else { continue };
        if file.format.as_deref() != Some("raw") || file.beneath.is_some() {
            continue;
        }
        let origin = context.origin_of(&file.path);
        file.origin = origin.map(|origin| Box::new(ImageFile::new(origin, Some("raw"))));
    }
    media
}

/// A description as a document, within the bounds of one that is [`parse`]d.
pub(crate) fn document(xml: &str) -> Result<Document<'_>, XmlError> {
    open(xml, MAX_NODES)
}

/// Parses a text within bounds.
fn open(xml: &str, nodes_limit: u32) -> Result<Document<'_>, XmlError> {
    if xml.len() > MAX_BYTES {
        let message = format!("{} bytes; expected at most {MAX_BYTES}", xml.len());
        return Err(XmlError { position: None, message });
    }
    shape::check(xml).map_err(|message| XmlError { position: None, message })?;
    let options = ParsingOptions { nodes_limit, ..ParsingOptions::default() };
    Document::parse_with_options(xml, options).map_err(|error| XmlError {
        position: Some((error.pos().row, error.pos().col)),
        message: error.to_string(),
    })
}

fn nics(domain: Node<'_, '_>, context: &Context) -> Result<Vec<Nic>, XmlError> {
    let interfaces: Vec<_> = devices(domain, "interface").collect();
    if interfaces.len() > MAX_NICS {
        return Err(at(domain, format!("more than {MAX_NICS} interfaces")));
    }
    interfaces.into_iter().map(|one| interface(one, context)).collect()
}

fn interface(interface: Node<'_, '_>, context: &Context) -> Result<Nic, XmlError> {
    let refuse = |message: String| at(interface, message);
    let mac = attribute(interface, "mac", "address")
        .ok_or_else(|| at(interface, "the interface has no <mac address=…>"))?;
    let target = attribute(interface, "target", "dev").filter(|name| !name.is_empty());
    let addresses = filter_addresses(interface).map_err(refuse)?;
    let mac = nic::mac(mac).map_err(refuse)?;
    let network = network::of(interface, &context.networks);
    // What the interface says itself goes before what its network says.
    let vlans = match (child(interface, "vlan"), network) {
        (None, Some(network)) => {
            network.vlans(attribute(interface, "source", "portgroup")).to_vec()
        }
        _ => trunk(interface).map_err(refuse)?,
    };
    Ok(Nic {
        mac,
        port: target.map(nic::port).transpose().map_err(refuse)?,
        vlans,
        addresses,
        rule: filter_rule(interface),
        dhcp_server: false,
        router: false,
        vrrp: false,
        unguarded: attachments::interface(interface).map(|way| way.kind),
        settings: network.and_then(|network| network.settings(mac)).into_iter().collect(),
    })
}

/// The addresses that libvirt's own network filter holds the NIC to.
fn filter_addresses(interface: Node<'_, '_>) -> Result<Vec<IpNet>, String> {
    let Some(filter) = child(interface, "filterref") else { return Ok(Vec::new()) };
    let mut addresses = Vec::new();
    for parameter in children(filter, "parameter") {
        if !matches!(parameter.attribute("name"), Some("IP" | "IPV6")) {
            continue;
        }
        let value = parameter.attribute("value").unwrap_or_default();
        let address = nic::address(value).map_err(|why| format!("<filterref>: {why}"))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// How libvirt's own network filter is told to learn the NIC's addresses, where it lists none
/// (<https://libvirt.org/formatnwfilter.html>).
fn filter_rule(interface: Node<'_, '_>) -> Option<AddressRule> {
    let mut parameters = children(child(interface, "filterref")?, "parameter");
    let learning = parameters.find(|one| one.attribute("name") == Some("CTRL_IP_LEARNING"))?;
    match learning.attribute("value")? {
        "dhcp" => Some(AddressRule::Dhcp),
        "any" => Some(AddressRule::FirstCome),
        _ => None,
    }
}

/// The VLANs that the guest itself tags. A single VLAN without `trunk` is put on by the switch: to
/// the guest it is untagged.
fn trunk(interface: Node<'_, '_>) -> Result<Vec<u16>, String> {
    let Some(vlan) = child(interface, "vlan") else { return Ok(Vec::new()) };
    let tags: Vec<_> = children(vlan, "tag").collect();
    if vlan.attribute("trunk") != Some("yes") && tags.len() < 2 {
        return Ok(Vec::new());
    }
    let mut ids = Vec::new();
    for tag in tags {
        let id = tag.attribute("id").unwrap_or_default();
        let id = id.parse().map_err(|_| format!("<vlan>: {id:?} is no VLAN id"))?;
        ids.push(if tag.attribute("nativeMode") == Some("untagged") { 0 } else { id });
    }
    nic::vlans(&ids)
}

pub(crate) fn devices<'a, 'i: 'a>(
    domain: Node<'a, 'i>,
    tag: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    children(domain, "devices").flat_map(move |devices| children(devices, tag))
}

pub(crate) fn children<'a, 'i: 'a>(
    node: Node<'a, 'i>,
    tag: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(tag))
}

pub(crate) fn child<'a, 'i: 'a>(node: Node<'a, 'i>, tag: &'a str) -> Option<Node<'a, 'i>> {
    children(node, tag).next()
}

/// The text of a child element, if it has any.
pub(crate) fn text<'a, 'i: 'a>(node: Node<'a, 'i>, tag: &'a str) -> Option<&'a str> {
    child(node, tag)?.text().map(str::trim).filter(|text| !text.is_empty())
}

pub(crate) fn attribute<'a, 'i: 'a>(
    node: Node<'a, 'i>,
    tag: &'a str,
    name: &str,
) -> Option<&'a str> {
    child(node, tag)?.attribute(name)
}

fn at(node: Node<'_, '_>, message: impl Into<String>) -> XmlError {
    let position = node.document().text_pos_at(node.range().start);
    XmlError { position: Some((position.row, position.col)), message: message.into() }
}

#[cfg(test)]
mod tests;
