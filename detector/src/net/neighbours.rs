//! The host's neighbour tables: who it has spoken with on its bridges.

use std::{collections::BTreeMap, net::IpAddr};

use detector_common::addr::Mac;
use detector_core::model::Neighbour;

use super::{
    NetError,
    link::vlan_device,
    netlink::{Message, Request, Rtnetlink},
};

/// `struct ndmsg` (`linux/neighbour.h`).
const HEADER_BYTES: usize = 12;
/// `struct ifinfomsg` (`linux/rtnetlink.h`).
const LINK_HEADER_BYTES: usize = 16;
/// States in which the MAC of a neighbour is known, without those that no neighbour has told it
/// (`NUD_NOARP`), and those that have failed.
const KNOWN: u16 =
    libc::NUD_PERMANENT | libc::NUD_REACHABLE | libc::NUD_STALE | libc::NUD_DELAY | libc::NUD_PROBE;

/// The neighbours on every bridge, by the bridge device itself or by a VLAN device on it, in the network
/// namespace of this thread. Devices that are neither are listed as bridges of their own.
pub fn neighbours() -> Result<Vec<Neighbour>, NetError> {
    let mut socket = Rtnetlink::open()?;
    let refused = |source| NetError::Refused { what: "list the neighbours".into(), source };
    let links = Request::new(libc::RTM_GETLINK, 0, &[0; LINK_HEADER_BYTES]);
    let vlans: BTreeMap<_, _> =
        socket.dump(&links, vlan_device).map_err(refused)?.into_iter().collect();
    let all = Request::new(libc::RTM_GETNEIGH, 0, &[0; HEADER_BYTES]);
    let mut found = socket.dump(&all, read).map_err(refused)?;
    for one in &mut found {
        if let Some((lower, vlan)) = vlans.get(&one.bridge) {
            (one.bridge, one.vlan) = (*lower, *vlan);
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn read(message: Message<'_>) -> Option<Neighbour> {
    if message.kind != libc::RTM_NEWNEIGH {
        return None;
    }
    let bridge = message.u32(4)?;
    let state = message.field(8).map(u16::from_ne_bytes)?;
    if state & KNOWN == 0 {
        return None;
    }
    let (mut mac, mut address) = (None, None);
    for (attribute, value) in message.attributes(HEADER_BYTES) {
        match attribute {
            libc::NDA_LLADDR => mac = value.try_into().ok().map(Mac),
            libc::NDA_DST => {
                address = match value.len() {
                    4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
                    _ => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
                }
            }
            _ => (),
        }
    }
    let mac = mac.filter(|mac| !mac.is_group() && *mac != Mac::ZERO)?;
    Some(Neighbour { bridge, vlan: 0, mac, address: address? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        link_by_name,
        testing::{NetNs, ip},
    };

    #[test]
    fn those_whose_mac_is_known() {
        let _ns = NetNs::enter();
        ip("link add br0 type bridge");
        ip("link set br0 up");
        ip("address add 192.0.2.1/24 dev br0");
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        for (address, how) in [
            ("192.0.2.7", "lladdr 02:00:00:00:00:07 nud stale"),
            ("192.0.2.8", "lladdr 02:00:00:00:00:07 nud reachable"),
            ("192.0.2.9", "nud failed"),
            ("192.0.2.10", "lladdr 02:00:00:00:00:07 nud noarp"),
            ("192.0.2.11", "lladdr 01:00:5e:00:00:07 nud permanent"),
            ("2001:db8::7", "lladdr 02:00:00:00:00:07 nud permanent"),
        ] {
            ip(&format!("neighbour replace {address} dev br0 {how}"));
        }
        let bridge = link_by_name("br0").unwrap().unwrap().ifindex;
        let expect = ["192.0.2.7", "192.0.2.8", "2001:db8::7"];
        let expect = expect.map(|address| Neighbour {
            bridge,
            vlan: 0,
            mac,
            address: address.parse().unwrap(),
        });
        assert_eq!(neighbours().unwrap(), expect);
    }
}
