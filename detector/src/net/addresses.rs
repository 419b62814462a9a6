//! The host's own addresses.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    NetError,
    netlink::{Message, Request, Rtnetlink},
};

/// `struct ifaddrmsg` (`linux/if_addr.h`).
const HEADER_BYTES: usize = 8;

/// Every address of every interface in the network namespace of this thread.
pub fn host_addresses() -> Result<BTreeSet<IpAddr>, NetError> {
    let request = Request::new(libc::RTM_GETADDR, 0, &[0; HEADER_BYTES]);
    let all = Rtnetlink::open()?.dump(&request, read).map_err(|source| NetError::Refused {
        what: "list the host's own addresses".into(),
        source,
    })?;
    Ok(all.into_iter().collect())
}

fn read(message: Message<'_>) -> Option<IpAddr> {
    if message.kind != libc::RTM_NEWADDR {
        return None;
    }
    let of = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    // On a point-to-point link the address is the other end's, and this end's is the local one.
    let mut found = (None, None);
    for (attribute, value) in message.attributes(HEADER_BYTES) {
        match attribute {
            libc::IFA_LOCAL => found.0 = of(value),
            libc::IFA_ADDRESS => found.1 = of(value),
            _ => (),
        }
    }
    found.0.or(found.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::{NetNs, ip};

    #[test]
    fn both_families() {
        let _ns = NetNs::enter();
        ip("link add br0 type bridge");
        let others = host_addresses().unwrap();
        assert!(others.iter().all(IpAddr::is_loopback), "{others:?}");
        ip("address add 192.0.2.1/24 dev br0");
        ip("address add 192.0.2.3 peer 192.0.2.4 dev br0");
        ip("address add 2001:db8::1/64 dev br0");
        let expect = ["192.0.2.1", "192.0.2.3", "2001:db8::1"].map(|text| text.parse().unwrap());
        let found = host_addresses().unwrap();
        assert_eq!(found.difference(&others).copied().collect::<BTreeSet<_>>(), expect.into());
    }
}
