use serde::{Deserialize, Serialize};

/// A network interface of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub ifindex: u32,
    pub name: String,
    pub kind: LinkKind,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    Bridge,
    Tap,
    Veth,
    /// On a device of its own, and not the only one there may be: passthrough mode is [`Self::Other`].
    Macvtap,
    /// No virtual kind: a device of the machine.
    Physical,
    Loopback,
    /// Any other virtual kind.
    Other,
}
