//! Which VLAN a bridge takes untagged frames of a port for.

use super::{
    NetError,
    netlink::{Message, Request, Rtnetlink, attributes},
};

/// The VLAN that untagged frames of the port are of, as its bridge has it (PVID); 0 where the port is on
/// no bridge, where its bridge minds no VLANs, and where untagged frames are dropped.
pub(crate) fn native_vlan(ifindex: u32) -> Result<u16, NetError> {
    let ask = || -> std::io::Result<u16> {
        let mut socket = Rtnetlink::open().map_err(std::io::Error::other)?;
        let mut master = None;
        socket.get(&link(ifindex), &mut |message| master = master_of(message))?;
        let Some(master) = master else { return Ok(0) };
        let mut minds = false;
        socket.get(&link(master), &mut |message| minds = minds_vlans(message))?;
        if !minds {
            return Ok(0);
        }
        let mut header = [0; VLAN_HEADER_BYTES];
        header[0] = libc::AF_BRIDGE as u8;
        header[4..].copy_from_slice(&ifindex.to_ne_bytes());
        let found = socket.dump(&Request::new(RTM_GETVLAN, 0, &header), native)?;
        Ok(found.first().copied().unwrap_or(0))
    };
    match ask() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)) => Ok(0),
        result => result.map_err(|source| NetError::Refused {
            what: format!("tell the VLAN of untagged frames on interface {ifindex}"),
            source,
        }),
    }
}

/// `linux/rtnetlink.h`; with it `struct br_vlan_msg` (`linux/if_bridge.h`).
const RTM_GETVLAN: u16 = 114;
const VLAN_HEADER_BYTES: usize = 8;
const BRIDGE_VLANDB_ENTRY: u16 = 1;
const BRIDGE_VLANDB_ENTRY_INFO: u16 = 1;
const BRIDGE_VLAN_INFO_PVID: u16 = 1 << 1;
/// `struct ifinfomsg`, and the attributes that say what a bridge does.
const LINK_HEADER_BYTES: usize = 16;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_VLAN_FILTERING: u16 = 7;

fn link(ifindex: u32) -> Request {
    let mut header = [0; LINK_HEADER_BYTES];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    Request::new(libc::RTM_GETLINK, 0, &header)
}

fn master_of(message: Message<'_>) -> Option<u32> {
    let mut attributes = message.attributes(LINK_HEADER_BYTES);
    let (_, master) = attributes.find(|(kind, _)| *kind == libc::IFLA_MASTER)?;
    Some(u32::from_ne_bytes(*master.first_chunk()?))
}

fn minds_vlans(message: Message<'_>) -> bool {
    let info = message.attributes(LINK_HEADER_BYTES).find(|(k, _)| *k == libc::IFLA_LINKINFO);
    let data = info.and_then(|(_, info)| attributes(info).find(|(k, _)| *k == IFLA_INFO_DATA));
    let minds = data.and_then(|(_, d)| attributes(d).find(|(k, _)| *k == IFLA_BR_VLAN_FILTERING));
    minds.is_some_and(|(_, value)| value.first() == Some(&1))
}

fn native(message: Message<'_>) -> Option<u16> {
    let entries = message.attributes(VLAN_HEADER_BYTES).filter(|(k, _)| *k == BRIDGE_VLANDB_ENTRY);
    entries
        .flat_map(|(_, entry)| attributes(entry))
        .filter(|(kind, _)| *kind == BRIDGE_VLANDB_ENTRY_INFO)
        .filter_map(|(_, info)| info.first_chunk::<4>())
        .map(|[a, b, c, d]| [[*a, *b], [*c, *d]].map(u16::from_ne_bytes))
        .find_map(|[flags, vlan]| (flags & BRIDGE_VLAN_INFO_PVID != 0).then_some(vlan))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        link_by_name,
        testing::{NetNs, ip, run},
    };

    #[test]
    fn the_vlan_of_untagged_frames() {
        let _ns = NetNs::enter();
        ip("link add br0 type bridge");
        ip("tuntap add tap0 mode tap");
        let tap = link_by_name("tap0").unwrap().unwrap().ifindex;
        let native = || native_vlan(tap).unwrap();
        assert_eq!(native(), 0, "on no bridge");
        ip("link set tap0 master br0");
        assert_eq!(native(), 0, "of a bridge that minds none");
        assert_eq!(native_vlan(9999).unwrap(), 0, "of an interface that is gone");
        let minds = std::process::Command::new("ip")
            .args(["link", "set", "br0", "type", "bridge", "vlan_filtering", "1"])
            .status()
            .unwrap();
        if !minds.success() {
            eprintln!("skipped: this kernel has no bridges that mind VLANs");
            return;
        }
        assert_eq!(native(), 1, "the default");
        run("bridge", "vlan add dev tap0 vid 10-20");
        run("bridge", "vlan add dev tap0 vid 15 pvid untagged");
        assert_eq!(native(), 15);
        run("bridge", "vlan del dev tap0 vid 15");
        assert_eq!(native(), 0, "untagged frames are dropped");
    }
}
