//! Passages to the sandbox: a veth pair for each port, of which one end is a port of the sandbox's bridge.

use std::io;

use detector_core::model::LinkKind;

use super::{
    NetError, link_by_index, link_by_name, links,
    netlink::{Request, Rtnetlink, nested},
};

/// Makes and removes veth pairs, in the network namespace of the thread that opens it. The ends are
/// named after the ifindex of the port, so that what a crash has left is found again.
#[derive(Debug)]
pub(crate) struct Passages {
    socket: Rtnetlink,
}

/// `struct ifinfomsg` (`linux/rtnetlink.h`).
const HEADER_BYTES: usize = 16;
/// `linux/if_link.h`, `linux/veth.h`, `linux/rtnetlink.h`.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const IFF_UP: u32 = libc::IFF_UP as u32;

const INNER: &str = "dsbi";
const OUTER: &str = "dsbo";

impl Passages {
    pub(crate) fn open() -> Result<Self, NetError> {
        Rtnetlink::open().map(|socket| Self { socket })
    }

    /// Makes the pair of a port, and returns the ifindex of the inner end, which is down still. The outer
    /// end is up, a port of the bridge, and does not reach other ports that are isolated. What there was
    /// of those names is removed.
    pub(crate) fn make(&mut self, port: u32, bridge: u32) -> Result<u32, NetError> {
        let (inner, outer) = (name(INNER, port), name(OUTER, port));
        for name in [&inner, &outer] {
            if let Some(left) = link_by_name(name)? {
                self.remove(left.ifindex)?;
            }
        }
        let mtu = mtu(&mut self.socket, port)?;
        self.create(&inner, &outer, mtu)
            .map_err(|source| refused(format!("make the veth pair {inner}"), source))?;
        let made = |name: &str| -> Result<u32, NetError> {
            let gone = || refused(format!("find {name}"), io::ErrorKind::NotFound.into());
            Ok(link_by_name(name)?.ok_or_else(gone)?.ifindex)
        };
        let inner = made(&inner)?;
        let joined = made(&outer).and_then(|outer| {
            self.silence(inner)?;
            self.silence(outer)?;
            self.join(outer, bridge).map_err(|source| {
                refused(format!("make interface {outer} a port of bridge {bridge}"), source)
            })
        });
        if joined.is_err() {
            self.remove(inner)?;
        }
        joined.map(|()| inner)
    }

    /// Makes the bridge of this name, up and silent; one that is there stays as it is.
    pub(crate) fn make_bridge(&mut self, name: &str) -> Result<(), NetError> {
        match link_by_name(name)?.map(|link| link.kind) {
            Some(LinkKind::Bridge) => return Ok(()),
            Some(_) => {
                let source = io::ErrorKind::AlreadyExists.into();
                return Err(refused(format!("make the bridge {name}"), source));
            }
            None => {}
        }
        let terminated = [name.as_bytes(), b"\0"].concat();
        let info = nested(&[(IFLA_INFO_KIND, b"bridge")]);
        let request = Request::new(libc::RTM_NEWLINK, CREATE, &header(0, 0, 0))
            .attribute(libc::IFLA_IFNAME, &terminated)
            .attribute(libc::IFLA_LINKINFO, &info);
        self.socket
            .perform(&request)
            .map_err(|source| refused(format!("make the bridge {name}"), source))?;
        let gone = || refused(format!("find {name}"), io::ErrorKind::NotFound.into());
        let bridge = link_by_name(name)?.ok_or_else(gone)?.ifindex;
        let made = self.silence(bridge).and_then(|()| self.bring_up(bridge));
        if made.is_err() {
            self.remove(bridge)?;
        }
        made
    }

    /// Brings the inner end up.
    pub(crate) fn bring_up(&mut self, inner: u32) -> Result<(), NetError> {
        self.socket
            .perform(&Request::new(libc::RTM_NEWLINK, 0, &header(0, inner, IFF_UP)))
            .map_err(|source| refused(format!("bring interface {inner} up"), source))
    }

    /// Removes a pair by one of its ends; one that is not there is removed already.
    pub(crate) fn remove(&mut self, end: u32) -> Result<(), NetError> {
        match self.socket.perform(&Request::new(libc::RTM_DELLINK, 0, &header(0, end, 0))) {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                Err(refused(format!("remove the veth pair of interface {end}"), error))
            }
            _ => Ok(()),
        }
    }

    fn create(&mut self, inner: &str, outer: &str, mtu: u32) -> io::Result<()> {
        let name = |name: &str| [name.as_bytes(), b"\0"].concat();
        let peer_header = header(0, 0, 0);
        let peer = Request::new(0, 0, &peer_header)
            .attribute(libc::IFLA_IFNAME, &name(outer))
            .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
            .into_payload();
        let data = nested(&[(VETH_INFO_PEER, &peer)]);
        let info = nested(&[(IFLA_INFO_KIND, b"veth"), (IFLA_INFO_DATA, &data)]);
        let request = Request::new(libc::RTM_NEWLINK, CREATE, &header(0, 0, 0))
            .attribute(libc::IFLA_IFNAME, &name(inner))
            .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
            .attribute(libc::IFLA_LINKINFO, &info);
        self.socket.perform(&request)
    }

    /// The end has no address of its own, and so says nothing by itself.
    fn silence(&mut self, end: u32) -> Result<(), NetError> {
        let mode = nested(&[(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE])]);
        let spec = nested(&[(libc::AF_INET6 as u16, &mode)]);
        let request = Request::new(libc::RTM_NEWLINK, 0, &header(0, end, 0))
            .attribute(libc::IFLA_AF_SPEC, &spec);
        match self.socket.perform(&request) {
            // There is no IPv6 on it.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
            result => result.map_err(|e| refused(format!("silence interface {end}"), e)),
        }
    }

    fn join(&mut self, outer: u32, bridge: u32) -> io::Result<()> {
        let join = Request::new(libc::RTM_NEWLINK, 0, &header(0, outer, 0))
            .attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        self.socket.perform(&join)?;
        let isolated = nested(&[(IFLA_BRPORT_ISOLATED, &[1])]);
        let isolate = Request::new(libc::RTM_SETLINK, 0, &header(libc::AF_BRIDGE as u8, outer, 0))
            .attribute(libc::IFLA_PROTINFO | libc::NLA_F_NESTED as u16, &isolated);
        self.socket.perform(&isolate)?;
        self.socket.perform(&Request::new(libc::RTM_NEWLINK, 0, &header(0, outer, IFF_UP)))
    }
}

/// What the interface is that was the inner end of a passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InnerEnd {
    Ours,
    Gone,
    /// An interface of another name.
    Other,
}

/// What has become of the inner end of a port's passage.
pub(crate) fn inner_end(port: u32, inner: u32) -> Result<InnerEnd, NetError> {
    Ok(match link_by_index(inner)? {
        None => InnerEnd::Gone,
        Some(link) if link.name == name(INNER, port) => InnerEnd::Ours,
        Some(_) => InnerEnd::Other,
    })
}

/// The bridge that the passage of a port leads to, if its inner end is still this interface.
pub(crate) fn leads_to(port: u32, inner: u32) -> Result<Option<u32>, NetError> {
    let ours = inner_end(port, inner)? == InnerEnd::Ours;
    let outer = if ours { link_by_name(&name(OUTER, port))? } else { None };
    Ok(outer.and_then(|outer| outer.master))
}

/// The inner ends of all pairs that are named like ours.
pub(crate) fn inner_ends() -> Result<Vec<u32>, NetError> {
    let ours = |name: &str| {
        let number = name.strip_prefix(INNER).and_then(|number| number.parse::<u32>().ok());
        number.is_some()
    };
    let veth = links()?.into_iter().filter(|link| link.kind == LinkKind::Veth && ours(&link.name));
    Ok(veth.map(|link| link.ifindex).collect())
}

fn name(end: &str, port: u32) -> String {
    format!("{end}{port}")
}

/// The size of the frames that a port may send, which its passage has to take.
fn mtu(socket: &mut Rtnetlink, port: u32) -> Result<u32, NetError> {
    /// That of Ethernet, where the kernel does not say.
    const USUAL: u32 = 1500;
    let mut found = None;
    socket
        .get(&Request::new(libc::RTM_GETLINK, 0, &header(0, port, 0)), &mut |message| {
            let mtu = message.attributes(HEADER_BYTES).find(|(kind, _)| *kind == libc::IFLA_MTU);
            found = mtu.and_then(|(_, value)| Some(u32::from_ne_bytes(value.try_into().ok()?)));
        })
        .map_err(|source| refused(format!("show interface {port}"), source))?;
    Ok(found.unwrap_or(USUAL))
}

fn header(family: u8, ifindex: u32, up: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = family;
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[8..12].copy_from_slice(&up.to_ne_bytes());
    header[12..16].copy_from_slice(&up.to_ne_bytes());
    header
}

fn refused(what: String, source: io::Error) -> NetError {
    NetError::Refused { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::{NetNs, ip, run};

    #[test]
    fn a_pair_is_made_found_and_removed() {
        let _ns = NetNs::enter();
        ip("link add sbx0 type bridge");
        ip("tuntap add tap0 mode tap");
        ip("link set tap0 mtu 9000");
        let [bridge, port] = ["sbx0", "tap0"].map(|n| link_by_name(n).unwrap().unwrap().ifindex);
        let mut passages = Passages::open().unwrap();
        let mut last = 0;
        for _ in 0..2 {
            let inner = passages.make(port, bridge).unwrap();
            assert_ne!(inner, last, "what was there is replaced");
            last = inner;
            assert_eq!(leads_to(port, inner).unwrap(), Some(bridge));
            assert_eq!(inner_ends().unwrap(), [inner]);
            assert_eq!(leads_to(port, bridge).unwrap(), None);
        }
        let outer = run("ip", &format!("-details link show dev {}", name(OUTER, port)));
        for word in ["master sbx0", "isolated on", "mtu 9000", "addrgenmode none"] {
            assert!(outer.contains(word), "{word}: {outer}");
        }
        passages.bring_up(last).unwrap();
        let inner = run("ip", &format!("-details link show dev {}", name(INNER, port)));
        assert!(inner.contains("LOWER_UP") && inner.contains("addrgenmode none"), "{inner}");
        ip(&format!("link set {} nomaster", name(OUTER, port)));
        assert_eq!(leads_to(port, last).unwrap(), None);
        for _ in 0..2 {
            passages.remove(last).unwrap();
        }
        assert!(inner_ends().unwrap().is_empty());
        assert!(passages.make(port, 9999).is_err());
    }
}
