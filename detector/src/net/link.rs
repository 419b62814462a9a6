//! Interfaces as rtnetlink describes them.

use detector_common::addr::Mac;
use detector_core::model::{Link, LinkKind};

use super::{
    NetError,
    netlink::{Message, Request, Rtnetlink, attributes, text},
};
use crate::enforcer::Frames;

/// Every interface.
pub fn links() -> Result<Vec<Link>, NetError> {
    let request = Request::new(libc::RTM_GETLINK, 0, &[0; HEADER_BYTES]);
    Rtnetlink::open()?
        .dump(&request, |m| read(m).map(|read| read.link))
        .map_err(|source| NetError::Refused { what: "list the interfaces".into(), source })
}

/// The interface of that index; `None` when there is none.
pub fn link_by_index(ifindex: u32) -> Result<Option<Link>, NetError> {
    one(&of_index(ifindex), &format!("show interface {ifindex}"))
}

/// The interface of that name; `None` when there is none.
pub fn link_by_name(name: &str) -> Result<Option<Link>, NetError> {
    // The kernel's answer to a name that no interface can have is an error.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Ok(None);
    }
    let name_attribute = [name.as_bytes(), b"\0"].concat();
    let request = Request::new(libc::RTM_GETLINK, 0, &[0; HEADER_BYTES])
        .attribute(libc::IFLA_IFNAME, &name_attribute);
    one(&request, &format!("show interface {}", name.escape_debug()))
}

/// The frames that the interface of that index has carried; `None` when there is none.
pub fn frames(ifindex: u32) -> Result<Option<Frames>, NetError> {
    let request = of_index(ifindex);
    ask(&request, &format!("count the frames of interface {ifindex}"), |message| {
        let mut attributes = message.attributes(HEADER_BYTES);
        let (_, statistics) = attributes.find(|(kind, _)| *kind == libc::IFLA_STATS64)?;
        // struct rtnl_link_stats64 (linux/if_link.h) begins with these two.
        let [from, to] = [0, 8].map(|at| {
            let bytes = statistics.get(at..)?.first_chunk()?;
            Some(u64::from_ne_bytes(*bytes))
        });
        Some(Frames { from: from?, to: to? })
    })
}

/// `struct ifinfomsg` (`linux/rtnetlink.h`).
const HEADER_BYTES: usize = 16;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// `linux/if_link.h`; for the other kinds that have such an attribute it is not looked at.
const IFLA_MACVLAN_MODE: u16 = 1;
/// The same, of VLAN devices.
const IFLA_VLAN_ID: u16 = 1;
const MACVLAN_MODE_VEPA: u32 = 2;
const MACVLAN_MODE_PASSTHRU: u32 = 8;

/// A message about an interface.
pub(super) struct Read {
    pub(super) link: Link,
    /// `AF_BRIDGE` when it is about the interface as a bridge port.
    pub(super) family: u8,
    /// Whether the interface, or its port, is gone.
    pub(super) deleted: bool,
}

/// Reads `RTM_NEWLINK` and `RTM_DELLINK`.
pub(super) fn read(message: Message<'_>) -> Option<Read> {
    let deleted = match message.kind {
        libc::RTM_NEWLINK => false,
        libc::RTM_DELLINK => true,
        _ => return None,
    };
    let [family, ..] = message.field::<1>(0)?;
    let hardware = message.field(2).map(u16::from_ne_bytes)?;
    let ifindex = message.u32(4)?;
    let flags = message.u32(8)?;
    let mut name: &[u8] = &[];
    let (mut master, mut lower, mut mac) = (None, None, None);
    let mut lower_is_here = true;
    let mut kind: Option<&[u8]> = None;
    let mut mode = None;
    for (attribute, value) in message.attributes(HEADER_BYTES) {
        match attribute {
            libc::IFLA_IFNAME => name = text(value),
            libc::IFLA_ADDRESS => mac = value.try_into().ok().map(Mac),
            libc::IFLA_MASTER => {
                master = value.first_chunk().map(|index| u32::from_ne_bytes(*index));
            }
            libc::IFLA_LINK => lower = value.first_chunk().map(|index| u32::from_ne_bytes(*index)),
            libc::IFLA_LINK_NETNSID => lower_is_here = false,
            libc::IFLA_LINKINFO => {
                let of = |wanted| attributes(value).find(|(k, _)| *k == wanted).map(|(_, v)| v);
                kind = of(IFLA_INFO_KIND).map(text);
                let mut modes = attributes(of(IFLA_INFO_DATA).unwrap_or_default());
                let value = modes.find(|(k, _)| *k == IFLA_MACVLAN_MODE).map(|(_, v)| v);
                mode = value.and_then(|v| v.first_chunk()).map(|v| u32::from_ne_bytes(*v));
            }
            _ => (),
        }
    }
    let is_stacked = matches!(kind, Some(b"macvlan" | b"vlan"));
    let kind = match (classify(kind, hardware, flags), mode) {
        (LinkKind::Macvtap, Some(MACVLAN_MODE_PASSTHRU)) => LinkKind::MacvtapPassthrough,
        (LinkKind::Macvtap, Some(MACVLAN_MODE_VEPA)) => LinkKind::MacvtapVepa,
        (kind, _) => kind,
    };
    let mac = mac.filter(|mac| *mac != Mac::ZERO);
    // Of other kinds it is something else: the other end of a veth, or a tunnel's way out.
    let is_on_device =
        is_stacked || kind.is_shared_macvtap() || kind == LinkKind::MacvtapPassthrough;
    let lower = lower.filter(|_| is_on_device && lower_is_here);
    let link = Link { ifindex, name: printable(name), kind, master, lower, mac };
    Some(Read { link, family, deleted })
}

/// The VLAN device of a message with the device that it is on and its VLAN.
pub(super) fn vlan_device(message: Message<'_>) -> Option<(u32, (u32, u16))> {
    let ifindex = message.u32(4)?;
    let find = |wanted| message.attributes(HEADER_BYTES).find(|(kind, _)| *kind == wanted);
    let (_, information) = find(libc::IFLA_LINKINFO)?;
    let of = |list, wanted| attributes(list).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
    if text(of(information, IFLA_INFO_KIND)?) != b"vlan" || find(libc::IFLA_LINK_NETNSID).is_some()
    {
        return None;
    }
    let vlan = of(of(information, IFLA_INFO_DATA)?, IFLA_VLAN_ID)?.first_chunk()?;
    let lower = find(libc::IFLA_LINK)?.1.first_chunk()?;
    Some((ifindex, (u32::from_ne_bytes(*lower), u16::from_ne_bytes(*vlan))))
}

fn classify(kind: Option<&[u8]>, hardware: u16, flags: u32) -> LinkKind {
    match kind {
        _ if flags & libc::IFF_LOOPBACK as u32 != 0 => LinkKind::Loopback,
        None => LinkKind::Physical,
        Some(b"bridge") => LinkKind::Bridge,
        Some(b"openvswitch") => LinkKind::OpenVSwitch,
        Some(b"veth") => LinkKind::Veth,
        Some(b"macvtap") => LinkKind::Macvtap,
        // A tun device that carries IP packets has no Ethernet address (ARPHRD_NONE).
        Some(b"tun") if hardware == libc::ARPHRD_ETHER => LinkKind::Tap,
        Some(_) => LinkKind::Other,
    }
}

/// An interface's name is any bytes but `/` and white space. One that is plain text stays as it is;
/// in any other each byte that is not printable ASCII is escaped, so that two names never look the
/// same and none reaches a terminal raw.
fn printable(name: &[u8]) -> String {
    match str::from_utf8(name) {
        Ok(text) if !text.contains(|c: char| c.is_control() || c == '\\') => text.to_owned(),
        _ => name.escape_ascii().to_string(),
    }
}

fn of_index(ifindex: u32) -> Request {
    let mut header = [0; HEADER_BYTES];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    Request::new(libc::RTM_GETLINK, 0, &header)
}

fn one(request: &Request, what: &str) -> Result<Option<Link>, NetError> {
    ask(request, what, |message| read(message).map(|read| read.link))
}

/// What is read of the one interface that the request is about; `None` when there is none.
fn ask<T>(
    request: &Request,
    what: &str,
    read: impl Fn(Message<'_>) -> Option<T>,
) -> Result<Option<T>, NetError> {
    let mut found = None;
    match Rtnetlink::open()?.get(request, &mut |message| found = read(message)) {
        Ok(()) => Ok(found),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(source) => Err(NetError::Refused { what: what.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::{NetNs, ip};

    #[test]
    fn names_are_kept_apart_and_harmless() {
        let cases: &[(&[u8], &str)] = &[
            (b"vnet0", "vnet0"),
            ("tap-ü".as_bytes(), "tap-ü"),
            (b"tap\xff", "tap\\xff"),
            (b"tap\\xff", "tap\\\\xff"),
            (b"a\x1b[31m", "a\\x1b[31m"),
        ];
        for (name, expect) in cases {
            assert_eq!(printable(name), *expect);
        }
    }

    #[test]
    fn kinds_in_a_namespace() {
        let _ns = NetNs::enter();
        ip("link add br0 address 02:00:00:00:00:42 type bridge");
        ip("tuntap add tap0 mode tap");
        ip("tuntap add tun0 mode tun");
        ip("link add veth0 type veth peer name veth1");
        ip("link add link veth1 name macvtap0 type macvtap mode bridge");
        ip("link add link veth1 name macvtap2 type macvtap mode vepa");
        ip("link add link veth0 name macvtap1 type macvtap mode passthru");
        ip("link set tap0 master br0");

        let bridge = link_by_name("br0").unwrap().unwrap();
        assert_eq!(bridge.kind, LinkKind::Bridge);
        assert_eq!(bridge.host_mac(), Some(Mac([2, 0, 0, 0, 0, 0x42])));
        let tap = link_by_name("tap0").unwrap().unwrap();
        assert_eq!((tap.kind, tap.master), (LinkKind::Tap, Some(bridge.ifindex)));
        assert_eq!(link_by_index(tap.ifindex).unwrap(), Some(tap));
        let lower = |name: &str| link_by_name(name).unwrap().unwrap().lower;
        assert_eq!(lower("macvtap0"), Some(link_by_name("veth1").unwrap().unwrap().ifindex));
        assert_eq!(lower("veth0"), None);
        let kinds: Vec<_> = links().unwrap().into_iter().map(|l| (l.name, l.kind)).collect();
        for (name, kind) in [
            ("lo", LinkKind::Loopback),
            ("tun0", LinkKind::Other),
            ("veth0", LinkKind::Veth),
            ("macvtap0", LinkKind::Macvtap),
            ("macvtap1", LinkKind::MacvtapPassthrough),
            ("macvtap2", LinkKind::MacvtapVepa),
        ] {
            assert!(kinds.contains(&(name.to_owned(), kind)), "{name}: {kinds:?}");
        }
        for absent in ["nope", "", "a-name-that-is-far-too-long"] {
            assert_eq!(link_by_name(absent).unwrap(), None);
        }
        assert_eq!(link_by_index(9999).unwrap(), None);
    }
}
