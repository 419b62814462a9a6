use detector_common::addr::Mac;
use serde::{Deserialize, Serialize};

/// A network interface of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub ifindex: u32,
    pub name: String,
    pub kind: LinkKind,
    /// The bridge that it is a port of; in Open vSwitch the device of the whole datapath.
    pub master: Option<u32>,
    /// The device that a macvtap, a macvlan or a VLAN device is on, where that is in the same network
    /// namespace.
    #[serde(default)]
    pub lower: Option<u32>,
    /// Its Ethernet address, where it has one.
    #[serde(default, with = "mac_text")]
    pub mac: Option<Mac>,
}

impl Link {
    /// What it shares with others, so that an address has one owner there: its bridge, or the device that
    /// it is on; else it has itself alone.
    pub fn scope(&self) -> u32 {
        self.master.or(self.lower).unwrap_or(self.ifindex)
    }

    /// The MAC under which the host itself speaks by this interface, or its bridge does. The far end of
    /// a veth is somebody else's, and a macvtap has the MAC of its guest.
    pub fn host_mac(&self) -> Option<Mac> {
        match self.kind {
            LinkKind::Bridge | LinkKind::OpenVSwitch | LinkKind::Physical | LinkKind::Other => {
                self.mac
            }
            LinkKind::Tap | LinkKind::Veth => self.mac.filter(|_| self.master.is_some()),
            LinkKind::Macvtap
            | LinkKind::MacvtapVepa
            | LinkKind::MacvtapPassthrough
            | LinkKind::Loopback => None,
        }
    }
}

impl LinkKind {
    /// Whether it is a macvtap that shares its device with others.
    pub const fn is_shared_macvtap(self) -> bool {
        matches!(self, Self::Macvtap | Self::MacvtapVepa)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    Bridge,
    /// The device of a datapath of Open vSwitch, which its ports have as their master, or an internal port
    /// there, by which the host speaks. Which bridge of Open vSwitch a port is of, no link says.
    #[serde(rename = "openvswitch")]
    OpenVSwitch,
    Tap,
    Veth,
    /// On a device of its own, which others share.
    Macvtap,
    /// The same where the switch outside hands back what its guests say to each other (VEPA mode).
    MacvtapVepa,
    /// A macvtap that has its device to itself (passthrough mode): no guard can hold it.
    MacvtapPassthrough,
    /// No virtual kind: a device of the machine.
    Physical,
    Loopback,
    /// Any other virtual kind.
    Other,
}

mod mac_text {
    use detector_common::addr::Mac;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mac: &Option<Mac>, to: S) -> Result<S::Ok, S::Error> {
        mac.map(|mac| mac.to_string()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Mac>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
