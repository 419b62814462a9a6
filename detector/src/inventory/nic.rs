//! What is checked of a NIC whoever describes it.

use std::net::{IpAddr, Ipv6Addr};

use detector_common::addr::Mac;
use ipnet::{IpNet, Ipv6Net};

/// `IFNAMSIZ` less its terminator.
const MAX_NAME: usize = 15;

/// The highest VLAN id that a frame may carry (IEEE 802.1Q, table 9-2).
const MAX_VLAN: u16 = 4094;

pub(super) fn mac(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|error| format!("{text:?} is {error}"))?;
    if mac.is_group() || mac == Mac::ZERO {
        return Err(format!(
            "{text:?} is not the address of a station; expected an individual MAC"
        ));
    }
    Ok(mac)
}

/// The name of a host interface, by the rules of `dev_valid_name()` in the kernel.
pub(super) fn port(name: &str) -> Result<String, String> {
    let usable = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':');
    let valid = (1..=MAX_NAME).contains(&name.len()) && !matches!(name, "." | "..");
    if valid && name.chars().all(usable) {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is no name of a network interface; expected up to 15 bytes"))
    }
}

/// An address or a prefix.
pub(super) fn address(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            format!(
                "{text:?} is neither an address nor a prefix; expected one such as 192.0.2.7, \
                 192.0.2.0/24 or 2001:db8::/64"
            )
        })?,
    };
    if net != net.trunc() {
        return Err(format!(
            "{text:?} has bits beyond its prefix; expected {} for one address or {} for all of them",
            net.addr(),
            net.trunc()
        ));
    }
    if net.addr().is_multicast() {
        return Err(format!("{text:?} is multicast; expected addresses of a station"));
    }
    if let IpNet::V6(net) = net {
        // Maps keep IPv4 addresses in their mapped form: such a prefix would grant those too.
        let mapped = Ipv6Net::new(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
        if mapped.is_ok_and(|mapped| mapped.contains(&net) || net.contains(&mapped)) {
            return Err(format!(
                "{text:?} covers IPv4-mapped addresses; expected IPv4 in its own form, and \
                 2000::/3 for all global addresses"
            ));
        }
    }
    Ok(net)
}

/// VLAN ids, each once.
pub(super) fn vlans(ids: &[u16]) -> Result<Vec<u16>, String> {
    if let Some(id) = ids.iter().find(|id| **id > MAX_VLAN) {
        return Err(format!("{id} is no VLAN id; expected 0 (untagged) to {MAX_VLAN}"));
    }
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
