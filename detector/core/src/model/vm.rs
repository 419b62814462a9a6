use std::path::PathBuf;

use detector_common::addr::Mac;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AddressRule, Attachment, AttachmentKind, Posture};

/// A virtual machine as an inventory source describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    pub uuid: Uuid,
    /// Chosen by whoever created the VM: escape it before it reaches a terminal.
    pub name: String,
    pub power: PowerState,
    /// Which run of it this is: its manager gives each another number. `None` where it gives none.
    #[serde(default)]
    pub run: Option<u32>,
    pub nics: Vec<Nic>,
    /// Everything the VM can boot from, in boot order.
    pub media: Vec<Medium>,
    /// The template that the source says the VM is made from; a statement, not evidence.
    pub declared_template: Option<String>,
    /// Ways out of it that its source lists and on which no guard can be.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// What is known of the machine that the guest runs on.
    #[serde(default)]
    pub posture: Posture,
    /// What whoever has described the VM claims for it without a right to; nothing of it counts.
    #[serde(default)]
    pub presumed: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerState {
    /// Its ports exist, the guest does not run yet.
    Starting,
    Running,
    Paused,
    /// Between two hosts: on the one that it leaves, its guest runs no more; on the other one, not
    /// yet.
    InTransit,
    /// The source says that it does not run: nothing is granted to it.
    Off,
}

/// A network interface of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    #[serde(with = "super::vm::mac_text")]
    pub mac: Mac,
    /// The host interface that it speaks through (`vnet0`), once there is one.
    pub port: Option<String>,
    /// VLAN ids granted; 0 is untagged. Empty means untagged only.
    pub vlans: Vec<u16>,
    /// Addresses and prefixes that the source says the NIC may use.
    pub addresses: Vec<IpNet>,
    /// How the addresses are granted; `None` leaves it to the policy's default.
    pub rule: Option<AddressRule>,
    pub dhcp_server: bool,
    pub router: bool,
    pub vrrp: bool,
    /// What kind of way out of the VM it is, where it is one on which no guard can be.
    #[serde(default)]
    pub unguarded: Option<AttachmentKind>,
    /// What the same source adds for reasons of its own: the network that the NIC is on, metadata.
    #[serde(default)]
    pub settings: Vec<NicSettings>,
}

/// What an administrator adds to a NIC that another source lists. What both state is granted at the
/// strictest; what is `None` or empty here is left to the other source. A role that is stated here
/// holds, since most of the other sources have no words for roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSettings {
    pub addresses: Vec<IpNet>,
    pub rule: Option<AddressRule>,
    /// VLAN ids granted; 0 is untagged.
    pub vlans: Option<Vec<u16>>,
    pub dhcp_server: Option<bool>,
    pub router: Option<bool>,
    pub vrrp: Option<bool>,
    /// Whoever states this may take away what others grant, the policy's default among them, and grant
    /// nothing.
    #[serde(default)]
    pub narrows: bool,
}

/// Something a VM can boot from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Medium {
    pub role: MediumRole,
    pub source: MediumSource,
}

/// A file or block device of this host, together with how the hypervisor reads it: what one file
/// shows as an overlay it does not show as a raw disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageFile {
    pub path: PathBuf,
    /// `qcow2`, `raw`, as the VM's manager says; `None` when nobody says.
    pub format: Option<String>,
    /// The medium under which it lies: of what lies beneath one a manager repeats what is written in
    /// it, so that the name may be that of whoever wrote it.
    #[serde(default)]
    pub beneath: Option<PathBuf>,
    /// The device that its manager says it is a snapshot of. That is a word about how it was made, and no
    /// way to read it.
    #[serde(default)]
    pub origin: Option<Box<ImageFile>>,
}

impl ImageFile {
    pub fn new(path: impl Into<PathBuf>, format: Option<&str>) -> Self {
        let format = format.map(str::to_owned);
        Self { path: path.into(), format, beneath: None, origin: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediumRole {
    Disk,
    Cdrom,
    Floppy,
    Kernel,
    Initrd,
    Firmware,
    Network,
    /// The firmware's stored variables: not booted from, but they say what is, and by which keys. No image
    /// of a template has this role: what they are made from is firmware.
    Variables,
}

impl MediumRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Cdrom => "cdrom",
            Self::Floppy => "floppy",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Firmware => "firmware",
            Self::Network => "network",
            Self::Variables => "variables",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediumSource {
    File(ImageFile),
    /// Something that cannot be digested here: a network disk, a volume only the manager knows,
    /// network boot. The text says what, for people.
    Remote(String),
}

pub(crate) mod mac_text {
    use detector_common::addr::Mac;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(mac: &Mac, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(mac)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Mac, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
