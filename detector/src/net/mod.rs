//! rtnetlink: which interfaces there are, and the forwarding entries of bridge ports.

use detector_core::model::Link;

/// What happened to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    Seen(Link),
    Gone { ifindex: u32 },
    Resynced(Vec<Link>),
}
