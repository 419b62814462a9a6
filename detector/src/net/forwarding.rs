//! Forwarding entries that a frame cannot move: a granted MAC belongs to its port.

use detector_common::addr::Mac;

use super::{
    NetError,
    netlink::{Message, Request, Rtnetlink},
};

/// Puts, removes and lists `static sticky` forwarding entries of bridge ports. Each call is done
/// when it returns.
#[derive(Debug)]
pub struct Forwarding {
    socket: Rtnetlink,
}

/// A `static sticky` forwarding entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForwardingEntry {
    /// The bridge port.
    pub ifindex: u32,
    pub mac: Mac,
    /// 0 for frames without a tag, where the kernel puts and removes the entry on every VLAN too that the
    /// port is a member of; that is each VLAN that such a frame may be taken for.
    pub vlan: u16,
}

/// `struct ndmsg` (`linux/neighbour.h`).
const HEADER_BYTES: usize = 12;
/// Addressed to the bridge and not to the port's own device.
const NTF_MASTER: u8 = 1 << 2;
/// A frame with this source from another port does not move the entry (bridge commit 435f2e7cc0b7).
const NTF_STICKY: u8 = 1 << 6;
/// `static` as the `bridge` command has it. `NUD_PERMANENT` would make the MAC the host's own, and
/// such an entry cannot be sticky.
const STATIC: u16 = libc::NUD_NOARP | libc::NUD_REACHABLE;
const CREATE_OR_MOVE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;

impl Forwarding {
    /// In the network namespace of this thread.
    pub fn open() -> Result<Self, NetError> {
        Rtnetlink::open().map(|socket| Self { socket })
    }

    /// Puts the entry, or makes one that exists `static sticky` and this port's.
    pub fn put(&mut self, entry: ForwardingEntry) -> Result<(), NetError> {
        self.socket
            .perform(&request(libc::RTM_NEWNEIGH, CREATE_OR_MOVE, entry))
            .map_err(|source| refused("pin", entry, source))
    }

    /// Removes the entry; one that is not there, or whose port left the bridge, is removed already.
    pub fn remove(&mut self, entry: ForwardingEntry) -> Result<(), NetError> {
        match self.socket.perform(&request(libc::RTM_DELNEIGH, 0, entry)) {
            Ok(()) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(source) => Err(refused("unpin", entry, source)),
        }
    }

    /// Every `static sticky` entry in this namespace, on whichever port.
    pub fn list(&mut self) -> Result<Vec<ForwardingEntry>, NetError> {
        let mut header = [0; HEADER_BYTES];
        header[0] = libc::AF_BRIDGE as u8;
        self.socket
            .dump(&Request::new(libc::RTM_GETNEIGH, 0, &header), read)
            .map_err(|source| NetError::Refused { what: "list forwarding entries".into(), source })
    }
}

fn request(kind: u16, flags: u16, entry: ForwardingEntry) -> Request {
    let mut header = [0; HEADER_BYTES];
    header[0] = libc::AF_BRIDGE as u8;
    header[4..8].copy_from_slice(&entry.ifindex.to_ne_bytes());
    header[8..10].copy_from_slice(&STATIC.to_ne_bytes());
    header[10] = NTF_MASTER | NTF_STICKY;
    let request = Request::new(kind, flags, &header).attribute(libc::NDA_LLADDR, &entry.mac.0);
    if entry.vlan == 0 {
        return request;
    }
    request.attribute(libc::NDA_VLAN, &entry.vlan.to_ne_bytes())
}

fn read(message: Message<'_>) -> Option<ForwardingEntry> {
    let ifindex = message.u32(4)?;
    let state = message.field(8).map(u16::from_ne_bytes)?;
    let [flags, ..] = message.field::<1>(10)?;
    if flags & NTF_STICKY == 0 || state & libc::NUD_NOARP == 0 {
        return None;
    }
    let mut mac = None;
    let mut vlan = 0;
    for (attribute, value) in message.attributes(HEADER_BYTES) {
        match attribute {
            libc::NDA_LLADDR => mac = value.try_into().ok().map(Mac),
            libc::NDA_VLAN => vlan = value.try_into().map_or(0, u16::from_ne_bytes),
            _ => (),
        }
    }
    Some(ForwardingEntry { ifindex, mac: mac?, vlan })
}

/// The answers of `br_fdb_delete` and of rtnetlink before it, when there is nothing to remove.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::EINVAL | libc::EOPNOTSUPP)
    )
}

fn refused(what: &str, entry: ForwardingEntry, source: std::io::Error) -> NetError {
    let ForwardingEntry { ifindex, mac, vlan } = entry;
    let what = format!("{what} {mac} (VLAN {vlan}) on interface {ifindex}");
    NetError::Refused { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        link_by_name,
        testing::{NetNs, ip, run},
    };

    /// A port of a bridge that knows VLANs is a member of VLAN 1.
    fn untagged(forwarding: &mut Forwarding) -> Vec<ForwardingEntry> {
        let mut entries = forwarding.list().unwrap();
        entries.retain(|entry| entry.vlan == 0);
        entries
    }

    #[test]
    fn entries_are_static_sticky_and_idempotent() {
        let _ns = NetNs::enter();
        ip("link add br0 type bridge");
        for tap in ["tap0", "tap1"] {
            ip(&format!("tuntap add {tap} mode tap"));
            ip(&format!("link set {tap} master br0 up"));
        }
        let [first, second] = ["tap0", "tap1"].map(|n| link_by_name(n).unwrap().unwrap().ifindex);
        let mac: Mac = "52:54:00:00:00:01".parse().unwrap();
        let entry = ForwardingEntry { ifindex: first, mac, vlan: 0 };
        let mut forwarding = Forwarding::open().unwrap();

        run("bridge", "fdb add 52:54:00:00:00:01 dev tap1 master static");
        for _ in 0..2 {
            forwarding.put(entry).unwrap();
            assert_eq!(untagged(&mut forwarding), [entry]);
        }
        let shown = run("bridge", "fdb show dev tap0");
        let line = shown.lines().find(|l| l.contains("52:54:00:00:00:01")).unwrap();
        assert!(line.contains("static") && line.contains("sticky"), "{line}");

        let moved = ForwardingEntry { ifindex: second, ..entry };
        forwarding.put(moved).unwrap();
        assert_eq!(untagged(&mut forwarding), [moved]);
        for _ in 0..2 {
            forwarding.remove(moved).unwrap();
            assert_eq!(forwarding.list().unwrap(), []);
        }
        ip("link del tap1");
        forwarding.remove(moved).unwrap();
        let error = forwarding.put(moved).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
    }
}
