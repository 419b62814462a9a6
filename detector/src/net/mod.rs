//! rtnetlink: which interfaces, neighbours and gateways there are, and the forwarding entries of bridge ports.
//!
//! Messages are read here attribute by attribute and not by a typed library: such a library drops
//! the whole message when one attribute is new to it or a name is no UTF-8, and an interface that
//! nobody sees is one that nobody guards. Everything is in the network namespace of the thread that
//! opens the socket.

mod addresses;
mod changes;
mod forwarding;
mod gateways;
mod link;
mod links;
mod neighbours;
mod netlink;
pub mod overhear;
mod passage;
mod signs;
mod tc;
mod vlans;
mod xdp;

#[cfg(test)]
pub(crate) mod testing;

pub use addresses::host_addresses;
pub(crate) use changes::{Changed, Changes, LinkChanges};
pub use forwarding::{Forwarding, ForwardingEntry};
pub use gateways::gateways;
pub use link::{frames, link_by_index, link_by_name, links};
pub use links::{LinkEvent, LinkEvents};
pub use neighbours::neighbours;
pub(crate) use netlink::{DATAGRAM_BYTES, messages};
pub(crate) use passage::{InnerEnd, Passages, inner_end, inner_ends, leads_to};
pub(crate) use signs::NetSigns;
pub(crate) use tc::{Direction, Filter, Tc};
pub(crate) use vlans::native_vlan;
pub(crate) use xdp::{Xdp, XdpPrograms};

/// Why a question to rtnetlink was not answered.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("cannot open a netlink socket")]
    Open(#[source] std::io::Error),
    #[error("the kernel refused to {what}")]
    Refused {
        what: String,
        #[source]
        source: std::io::Error,
    },
}

impl NetError {
    /// The errno that the kernel answered with.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source) | Self::Refused { source, .. } => source.raw_os_error(),
        }
    }
}
