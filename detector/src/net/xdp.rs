//! XDP programs on interfaces: they see a frame before traffic control does.

use super::{
    NetError,
    netlink::{Message, Request, Rtnetlink, attributes},
};

/// An XDP program on an interface of this namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Xdp {
    pub(crate) ifindex: u32,
    /// The kernel's number of the program.
    pub(crate) program: u32,
    /// `XDP_FLAGS_…_MODE` in which it is attached.
    pub(crate) mode: u32,
}

/// Lists XDP programs and takes them off.
#[derive(Debug)]
pub(crate) struct XdpPrograms {
    socket: Rtnetlink,
}

/// `struct ifinfomsg` (`linux/rtnetlink.h`).
const HEADER_BYTES: usize = 16;
/// Leave out the counters, which are most of an answer (`linux/rtnetlink.h`).
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// `linux/if_link.h`.
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_FLAGS_HW_MODE: u32 = 1 << 3;
const NLA_F_NESTED: u16 = 1 << 15;

impl XdpPrograms {
    /// In the network namespace of this thread.
    pub(crate) fn open() -> Result<Self, NetError> {
        Rtnetlink::open().map(|socket| Self { socket })
    }

    pub(crate) fn list(&mut self) -> Result<Vec<Xdp>, NetError> {
        let request = Request::new(libc::RTM_GETLINK, 0, &[0; HEADER_BYTES])
            .attribute(libc::IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        self.socket
            .dump(&request, |message| Some(read(message)))
            .map(|found| found.into_iter().flatten().collect())
            .map_err(|source| NetError::Refused { what: "list XDP programs".into(), source })
    }

    /// Takes off the program in that mode, whichever it is. One that has a link stays.
    pub(crate) fn take_off(&mut self, ifindex: u32, mode: u32) -> Result<(), NetError> {
        let mut header = [0; HEADER_BYTES];
        header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        let nested = Request::new(0, 0, &[])
            .attribute(IFLA_XDP_FD, &(-1_i32).to_ne_bytes())
            .attribute(IFLA_XDP_FLAGS, &mode.to_ne_bytes());
        let request = Request::new(libc::RTM_SETLINK, 0, &header)
            .attribute(libc::IFLA_XDP | NLA_F_NESTED, nested.payload());
        self.socket.perform(&request).map_err(|source| NetError::Refused {
            what: format!("take the XDP program off interface {ifindex}"),
            source,
        })
    }
}

fn read(message: Message<'_>) -> Vec<Xdp> {
    let Some(ifindex) = message.u32(4) else { return Vec::new() };
    let xdp = message.attributes(HEADER_BYTES).filter(|(kind, _)| *kind == libc::IFLA_XDP);
    xdp.flat_map(|(_, nested)| attributes(nested))
        .filter_map(|(kind, value)| {
            let mode = match kind {
                IFLA_XDP_SKB_PROG_ID => XDP_FLAGS_SKB_MODE,
                IFLA_XDP_DRV_PROG_ID => XDP_FLAGS_DRV_MODE,
                IFLA_XDP_HW_PROG_ID => XDP_FLAGS_HW_MODE,
                _ => return None,
            };
            let program = value.first_chunk().map(|id| u32::from_ne_bytes(*id))?;
            (program != 0).then_some(Xdp { ifindex, program, mode })
        })
        .collect()
}
