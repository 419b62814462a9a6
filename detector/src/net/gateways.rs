//! The gateways that the host itself uses.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    NetError,
    netlink::{Message, Request, Rtnetlink, attributes},
};

/// `struct rtmsg` (`linux/rtnetlink.h`).
const HEADER_BYTES: usize = 12;
/// `struct rtnexthop` (`linux/rtnetlink.h`).
const NEXT_HOP_BYTES: usize = 8;
/// `rtm_dst_len` and `rtm_type` in the header.
const PREFIX_LENGTH: usize = 1;
const TYPE: usize = 7;

/// The next hops of every default route, in every routing table of the network namespace of this thread.
pub fn gateways() -> Result<BTreeSet<IpAddr>, NetError> {
    let request = Request::new(libc::RTM_GETROUTE, 0, &[0; HEADER_BYTES]);
    let all = Rtnetlink::open()?
        .dump(&request, |message| Some(read(message)))
        .map_err(|source| NetError::Refused { what: "list the default routes".into(), source })?;
    Ok(all.into_iter().flatten().collect())
}

fn read(message: Message<'_>) -> Vec<IpAddr> {
    let byte = |at| message.field::<1>(at).map(|[byte]| byte);
    let is_default = byte(PREFIX_LENGTH) == Some(0) && byte(TYPE) == Some(libc::RTN_UNICAST);
    if message.kind != libc::RTM_NEWROUTE || !is_default {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (attribute, value) in message.attributes(HEADER_BYTES) {
        match attribute {
            libc::RTA_MULTIPATH => found.extend(next_hops(value)),
            _ => found.extend(next_hop(attribute, value)),
        }
    }
    found
}

/// The gateways of a route that has several. A damaged one ends the list.
fn next_hops(list: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut rest = list;
    while let [a, b, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(own) = rest.get(NEXT_HOP_BYTES..length) else { break };
        found.extend(attributes(own).filter_map(|(kind, value)| next_hop(kind, value)));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn next_hop(attribute: u16, value: &[u8]) -> Option<IpAddr> {
    let address = match attribute {
        libc::RTA_GATEWAY => value,
        // Of another family than the route: `struct rtvia` begins with it.
        libc::RTA_VIA => value.get(2..)?,
        _ => return None,
    };
    match address.len() {
        4 => <[u8; 4]>::try_from(address).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(address).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::{NetNs, ip};

    #[test]
    fn next_hops_of_default_routes() {
        let _ns = NetNs::enter();
        ip("link add br0 type bridge");
        ip("link set br0 up");
        ip("address add 192.0.2.1/24 dev br0");
        ip("address add 2001:db8::1/64 dev br0 nodad");
        let expect = |addresses: &[&str]| -> BTreeSet<IpAddr> {
            addresses.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(gateways().unwrap(), expect(&[]));
        // Routes elsewhere, and default routes that lead to nobody, have none.
        ip("route add 198.51.100.0/24 via 192.0.2.9");
        ip("route add blackhole default metric 99");
        ip("route add default dev br0 metric 98");
        assert_eq!(gateways().unwrap(), expect(&[]));
        ip("route add default via 192.0.2.254");
        ip("-6 route add default via 2001:db8::fe");
        ip("-6 route add default via fe80::fe dev br0 metric 5000");
        let known = ["192.0.2.254", "2001:db8::fe", "fe80::fe"];
        assert_eq!(gateways().unwrap(), expect(&known));
        // Another table; several; one of another family.
        ip("route add default via 192.0.2.253 table 100");
        ip("route add default metric 7 nexthop via 192.0.2.251 nexthop via 192.0.2.252");
        ip("route add default via inet6 2001:db8::fd dev br0 metric 8");
        let more = ["192.0.2.251", "192.0.2.252", "192.0.2.253", "2001:db8::fd"];
        assert_eq!(gateways().unwrap(), expect(&[&known[..], &more].concat()));
        ip("route del default via 192.0.2.254");
        assert!(!gateways().unwrap().contains(&known[0].parse().unwrap()));
    }

    /// Whatever the kernel says, it is read to its end or not at all.
    #[test]
    fn damaged_lists_end() {
        let hop = [16, 0, 0, 0, 1, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 254];
        assert_eq!(next_hops(&[hop, hop].concat()).len(), 2);
        for end in 0..hop.len() {
            assert_eq!(next_hops(&hop[..end]), [] as [IpAddr; 0], "{end}");
        }
        assert_eq!(next_hops(&[0; 32]), [] as [IpAddr; 0], "no length");
        assert_eq!(next_hop(libc::RTA_GATEWAY, &[1; 5]), None);
        assert_eq!(next_hop(libc::RTA_VIA, &[1]), None);
    }
}
