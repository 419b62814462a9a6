//! Libvirt's description of a network (<https://libvirt.org/formatnetwork.html>): what it says of the NICs
//! that are on it.

use std::{collections::BTreeMap, net::IpAddr};

use detector_common::addr::Mac;
use detector_core::model::{AddressRule, NicSettings};
use ipnet::IpNet;
use roxmltree::Node;

use super::{XmlError, at, attribute, children, nic, open, text, trunk};

/// A network of a hundred portgroups and a thousand hosts has some thousand nodes.
const MAX_NODES: u32 = 200_000;

/// What a network adds to what is known of a NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The addresses that its server keeps for one MAC.
    hosts: BTreeMap<Mac, Vec<IpNet>>,
    /// The prefixes that it has itself.
    prefixes: Vec<IpNet>,
    /// The VLANs of its NICs.
    vlans: Vec<u16>,
    /// The same by portgroup.
    portgroups: BTreeMap<String, Vec<u16>>,
    /// The portgroup of NICs that name none.
    default: Option<String>,
}

impl Network {
    /// Reads the description of a network; its name, and what it says.
    ///
    /// # Errors
    ///
    /// What cannot be understood. Nothing is left out, for it might narrow what a NIC may do.
    pub fn parse(xml: &str) -> Result<(String, Self), XmlError> {
        let document = open(xml, MAX_NODES)?;
        let root = document.root_element();
        if !root.has_tag_name("network") {
            return Err(at(root, "expected the element <network>"));
        }
        let name = text(root, "name").ok_or_else(|| at(root, "the network has no <name>"))?;
        let vlans = |node| trunk(node).map_err(|message| at(node, message));
        let mut network = Self { vlans: vlans(root)?, ..Self::default() };
        for group in children(root, "portgroup") {
            let name = group.attribute("name").unwrap_or_default();
            network.portgroups.insert(name.to_owned(), vlans(group)?);
            if group.attribute("default") == Some("yes") {
                network.default = Some(name.to_owned());
            }
        }
        for ip in children(root, "ip") {
            network.prefixes.extend(prefix(ip).map_err(|message| at(ip, message))?);
            for host in children(ip, "dhcp").flat_map(|dhcp| children(dhcp, "host")) {
                // One without a MAC is known by a name or an identifier that its client chooses.
                let Some(mac) = host.attribute("mac") else { continue };
                let refuse = |message| at(host, message);
                let mac = nic::mac(mac).map_err(refuse)?;
                let address = nic::address(host.attribute("ip").unwrap_or_default());
                network.hosts.entry(mac).or_default().push(address.map_err(refuse)?);
            }
        }
        Ok((name.to_owned(), network))
    }

    /// What it says of the addresses of a NIC: those that are kept for it, and whatever the network has of
    /// a family of which none is.
    pub(super) fn settings(&self, mac: Mac) -> Option<NicSettings> {
        let hosts = self.hosts.get(&mac)?;
        let is_v4 = |net: &IpNet| matches!(net, IpNet::V4(_));
        let open = |net: &&IpNet| !hosts.iter().any(|host| is_v4(host) == is_v4(net));
        let open: Vec<_> = self.prefixes.iter().filter(open).copied().collect();
        let rule = if open.is_empty() { AddressRule::Exact } else { AddressRule::Prefix };
        let addresses = hosts.iter().copied().chain(open).collect();
        Some(NicSettings { addresses, rule: Some(rule), narrows: true, ..NicSettings::default() })
    }

    /// The VLANs of a NIC that has none of its own.
    pub(super) fn vlans(&self, portgroup: Option<&str>) -> &[u16] {
        let group = portgroup.filter(|name| self.portgroups.contains_key(*name));
        let group = group.or(self.default.as_deref());
        let group = group.and_then(|name| self.portgroups.get(name));
        group.filter(|vlans| !vlans.is_empty()).unwrap_or(&self.vlans)
    }
}

fn prefix(ip: Node<'_, '_>) -> Result<Option<IpNet>, String> {
    let Some(text) = ip.attribute("address") else { return Ok(None) };
    let wrong = |what: &str| format!("<ip>: {what:?} is no address, prefix or netmask");
    let address: IpAddr = text.parse().map_err(|_| wrong(text))?;
    let net = match (ip.attribute("prefix"), ip.attribute("netmask")) {
        (Some(prefix), _) => {
            let length = prefix.parse().map_err(|_| wrong(prefix))?;
            IpNet::new(address, length).map_err(|_| wrong(prefix))?
        }
        (None, Some(mask)) => {
            let netmask = mask.parse().map_err(|_| wrong(mask))?;
            IpNet::with_netmask(address, netmask).map_err(|_| wrong(mask))?
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(net.trunc()))
}

/// What the network of an interface says of it.
pub(super) fn of<'a>(
    interface: Node<'_, '_>,
    networks: &'a BTreeMap<String, Network>,
) -> Option<&'a Network> {
    networks.get(attribute(interface, "source", "network")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = "<network><name>default</name>
        <portgroup name='plain' default='yes'/>
        <portgroup name='trunk'><vlan trunk='yes'><tag id='7'/><tag id='9'/></vlan></portgroup>
        <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp>
            <range start='192.168.122.2' end='192.168.122.254'/>
            <host mac='52:54:00:00:00:01' name='a' ip='192.168.122.11'/>
            <host name='by-name' ip='192.168.122.12'/>
        </dhcp></ip>MORE</network>";

    #[test]
    fn what_a_network_says_of_its_nics() {
        let mac = |number: u8| Mac([0x52, 0x54, 0, 0, 0, number]);
        let read = |more: &str| Network::parse(&NETWORK.replace("MORE", more)).unwrap();
        let (name, network) = read("");
        assert_eq!(name, "default");
        let settings = |network: &Network, number: u8| {
            let said = network.settings(mac(number))?;
            assert!(said.narrows, "a network takes away and gives nothing");
            let listed: Vec<_> = said.addresses.iter().map(ToString::to_string).collect();
            Some((said.rule.unwrap(), listed.join(" ")))
        };
        let exact = (AddressRule::Exact, "192.168.122.11/32".to_owned());
        assert_eq!(settings(&network, 1), Some(exact));
        assert_eq!(settings(&network, 2), None);
        // Of the other family nothing is kept for it, so that all of it is as it was.
        let (_, network) = read("<ip family='ipv6' address='2001:db8::1' prefix='64'/>");
        let both = (AddressRule::Prefix, "192.168.122.11/32 2001:db8::/64".to_owned());
        assert_eq!(settings(&network, 1), Some(both));

        for (more, group, expect) in [
            ("", Some("trunk"), [7, 9].as_slice()),
            ("", None, &[]),
            ("", Some("unknown"), &[]),
            ("<vlan trunk='yes'><tag id='5'/></vlan>", None, &[5]),
            ("<vlan trunk='yes'><tag id='5'/></vlan>", Some("trunk"), &[7, 9]),
            // The switch puts it on: to the guest it is untagged.
            ("<vlan><tag id='5'/></vlan>", None, &[]),
        ] {
            assert_eq!(read(more).1.vlans(group), expect, "{more} {group:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_as_a_whole() {
        for (more, expect) in [
            ("<ip address='x' prefix='64'/>", "no address"),
            ("<ip address='192.0.2.1' prefix='64'/>", "no address"),
            ("<ip address='192.0.2.1' netmask='255.0.255.0'/>", "no address"),
            ("<ip><dhcp><host mac='x' ip='192.0.2.1'/></dhcp></ip>", "x"),
            ("<ip><dhcp><host mac='52:54:00:00:00:01' ip='224.0.0.1'/></dhcp></ip>", "multicast"),
            ("<vlan trunk='yes'><tag id='4095'/></vlan>", "no VLAN id"),
        ] {
            let error = Network::parse(&NETWORK.replace("MORE", more)).unwrap_err().to_string();
            assert!(error.starts_with("line ") && error.contains(expect), "{more}: {error}");
        }
        assert!(Network::parse("<domain/>").is_err());
    }
}
