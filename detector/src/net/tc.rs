//! Qdiscs and filters of kernels that have no TCX.

use super::{
    NetError,
    netlink::{Message, Request, Rtnetlink, attributes, text},
};

/// Looks at what traffic control has on an interface.
#[derive(Debug)]
pub(crate) struct Tc {
    socket: Rtnetlink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// A BPF filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) priority: u16,
    pub(crate) handle: u32,
    /// The name that it was attached under.
    pub(crate) name: Vec<u8>,
}

/// `struct tcmsg` (`linux/rtnetlink.h`).
const HEADER_BYTES: usize = 20;
/// `TC_H_CLSACT`, which is `TC_H_INGRESS` too.
const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_MAJOR: u32 = 0xffff_0000;
const TCA_BPF_NAME: u16 = 7;

impl Direction {
    /// The parent of the filters of this direction.
    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => CLSACT_MAJOR | 0xfff2,
            Self::Egress => CLSACT_MAJOR | 0xfff3,
        }
    }
}

impl Tc {
    pub(crate) fn open() -> Result<Self, NetError> {
        Rtnetlink::open().map(|socket| Self { socket })
    }

    /// What is at the place of `clsact`: that, `ingress`, or nothing. The two share one place.
    pub(crate) fn clsact_kind(&mut self, ifindex: u32) -> Result<Option<String>, NetError> {
        // Old kernels ignore the interface of the request and list all qdiscs.
        let read = |m: Message<'_>| {
            let ours = m.u32(4)? == ifindex && m.u32(12)? == CLSACT_PARENT;
            let (_, kind) = m.attributes(HEADER_BYTES).find(|(k, _)| *k == libc::TCA_KIND)?;
            ours.then(|| String::from_utf8_lossy(text(kind)).into_owned())
        };
        self.socket
            .dump(&Request::new(libc::RTM_GETQDISC, 0, &header(ifindex, 0)), read)
            .map(|kinds| kinds.into_iter().next())
            .map_err(|source| refused("list the qdiscs", ifindex, source))
    }

    /// The BPF filters of one direction; empty also when there is no clsact.
    pub(crate) fn filters(
        &mut self,
        ifindex: u32,
        direction: Direction,
    ) -> Result<Vec<Filter>, NetError> {
        let request = Request::new(libc::RTM_GETTFILTER, 0, &header(ifindex, direction.parent()));
        match self.socket.dump(&request, read_filter) {
            Ok(filters) => Ok(filters),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)) => {
                Ok(Vec::new())
            }
            Err(source) => Err(refused("list the filters", ifindex, source)),
        }
    }

    /// Whether there is a filter of whatever kind in one direction.
    pub(crate) fn has_filters(
        &mut self,
        ifindex: u32,
        direction: Direction,
    ) -> Result<bool, NetError> {
        let request = Request::new(libc::RTM_GETTFILTER, 0, &header(ifindex, direction.parent()));
        // A chain is listed with a head of its own, which has no handle.
        let is_filter = |message: Message<'_>| message.u32(8).filter(|handle| *handle != 0);
        let filters = self.socket.dump(&request, is_filter);
        filters
            .map(|handles| !handles.is_empty())
            .map_err(|source| refused("list the filters", ifindex, source))
    }

    /// Removes a clsact qdisc with all that hangs on it.
    pub(crate) fn remove_clsact(&mut self, ifindex: u32) -> Result<(), NetError> {
        let mut header = header(ifindex, CLSACT_PARENT);
        header[8..12].copy_from_slice(&CLSACT_MAJOR.to_ne_bytes());
        let request =
            Request::new(libc::RTM_DELQDISC, 0, &header).attribute(libc::TCA_KIND, b"clsact\0");
        self.socket
            .perform(&request)
            .map_err(|source| refused("remove the clsact qdisc", ifindex, source))
    }
}

fn header(ifindex: u32, parent: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    header
}

fn read_filter(message: Message<'_>) -> Option<Filter> {
    let handle = message.u32(8)?;
    let priority = u16::try_from(message.u32(16)? >> 16).ok()?;
    let mut bpf = false;
    let mut name = Vec::new();
    for (attribute, value) in message.attributes(HEADER_BYTES) {
        match attribute {
            libc::TCA_KIND => bpf = text(value) == b"bpf",
            libc::TCA_OPTIONS => {
                let found = attributes(value).find(|(k, _)| *k == TCA_BPF_NAME);
                name = found.map(|(_, value)| text(value).to_vec()).unwrap_or_default();
            }
            _ => (),
        }
    }
    // A chain is listed with a head of its own, which has no handle.
    (bpf && handle != 0).then_some(Filter { priority, handle, name })
}

fn refused(what: &str, ifindex: u32, source: std::io::Error) -> NetError {
    NetError::Refused { what: format!("{what} of interface {ifindex}"), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        link_by_name,
        testing::{NetNs, ip, run},
    };

    #[test]
    fn clsact_and_ingress_are_told_apart() {
        let _ns = NetNs::enter();
        ip("tuntap add tap0 mode tap");
        let ifindex = link_by_name("tap0").unwrap().unwrap().ifindex;
        let mut tc = Tc::open().unwrap();
        assert_eq!(tc.clsact_kind(ifindex).unwrap(), None);
        assert_eq!(tc.filters(ifindex, Direction::Egress).unwrap(), []);
        run("tc", "qdisc add dev tap0 ingress");
        assert_eq!(tc.clsact_kind(ifindex).unwrap().as_deref(), Some("ingress"));
        run("tc", "qdisc del dev tap0 ingress");
        run("tc", "qdisc add dev tap0 clsact");
        assert_eq!(tc.clsact_kind(ifindex).unwrap().as_deref(), Some("clsact"));
        assert_eq!(tc.filters(ifindex, Direction::Ingress).unwrap(), []);
        tc.remove_clsact(ifindex).unwrap();
        assert_eq!(tc.clsact_kind(ifindex).unwrap(), None);
    }
}
