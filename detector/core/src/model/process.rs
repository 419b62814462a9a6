use std::{collections::BTreeMap, collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;

/// A life of a process. The kernel gives the number of one that has ended to another one; the moment
/// of its start tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// In clock ticks since the host booted (`starttime` of proc_pid_stat(5)).
    pub started: u64,
}

/// A process that is a virtual machine, or holds what one is made of, as a scan of the host has found
/// it. Whoever runs it chooses its texts: they are bounded, and raw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmProcess {
    pub id: ProcessId,
    pub started: Timestamp,
    /// When a scan saw it first.
    pub first: Timestamp,
    /// It has been there for longer than an inventory may take to name it.
    pub lasting: bool,
    /// Its real user id, and the name of that user where there is one.
    pub uid: u32,
    pub user: Option<String>,
    /// Path of the program, as the kernel says it.
    pub exe: String,
    /// What it says that it was started with.
    pub command: String,
    /// The virtual machine monitor that the program turns out to be.
    pub program: Option<Program>,
    /// Why it cannot be told what the process is.
    pub obscure: Option<String>,
    pub holds: Holds,
    /// How its arguments connect it, where no guard is.
    pub attachments: Vec<Attachment>,
    /// The VM that its arguments say it is: a statement of whoever started it, which proves nothing.
    pub says: Says,
    /// The network namespace that it is in, by its inode.
    pub network: u64,
    /// Whether that is the daemon's own.
    pub network_is_hosts: bool,
    pub cgroup: String,
    /// The name of the VM as whose process its manager has recorded it.
    pub recorded: Option<String>,
}

/// A known virtual machine monitor, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    pub by: Recognised,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recognised {
    /// By the name of its file.
    Name,
    /// By what is in its file, whatever it is called.
    Content,
}

/// What a process holds open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Descriptors of virtual machines of the kernel's hypervisor.
    pub vms: u32,
    /// Descriptors of their processors.
    pub vcpus: u32,
    /// Devices that VMs are made of: `/dev/kvm`, `/dev/vhost-net`, `/dev/vfio/7`, `/dev/tap9`.
    pub devices: BTreeSet<String>,
    /// Taps that it speaks through.
    pub taps: BTreeSet<HeldTap>,
}

/// A queue of a tap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeldTap {
    pub name: String,
    /// Whether the tap is in the daemon's own network namespace; `None` when that cannot be told.
    pub here: Option<bool>,
}

/// The VM that the arguments of a process name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Says {
    pub uuid: Option<Uuid>,
    pub name: Option<String>,
}

/// A way out of a VM on which no guard can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    pub kind: AttachmentKind,
    /// Which one, in the words of its manager or of its arguments; bounded, and raw.
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentKind {
    /// A device, or a function of one, that the VM drives itself (SR-IOV, PCI pass-through).
    Passthrough,
    /// A switch in another process moves its frames (vhost-user, vDPA).
    VhostUser,
    /// A network stack in a process speaks for it (slirp, passt).
    UserMode,
    /// A macvtap that has the lower device to itself or is bound to no bridge.
    Macvtap,
    /// Its frames go through a socket to another process or host.
    Socket,
    /// An interface on no guarded bridge.
    Unbridged,
}

impl AttachmentKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::VhostUser => "vhost-user",
            Self::UserMode => "user-mode",
            Self::Macvtap => "macvtap",
            Self::Socket => "socket",
            Self::Unbridged => "unbridged",
        }
    }
}

/// What the scans of the host have found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// Whether there has been a scan in this life of the daemon.
    pub scanned: bool,
    /// Why the last scan failed, and since when scans do. What an earlier one found stays.
    pub lost: Option<(Timestamp, String)>,
    pub found: BTreeMap<ProcessId, VmProcess>,
    /// What has become of those that were to be kept from running on.
    pub curbed: BTreeMap<ProcessId, Curbed>,
}

/// How a VM that no inventory knows is kept from running on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curb {
    /// It does not run on, and its memory stays.
    Suspend,
    /// Its process is ended.
    Stop,
}

/// What has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curbed {
    Suspended,
    Ended,
    /// It runs on, and why.
    Refused(String),
}

impl Processes {
    /// Whether it was tried to keep it from running on.
    pub fn is_tried(&self, id: ProcessId) -> bool {
        self.curbed.contains_key(&id)
    }
}

impl VmProcess {
    /// It runs a virtual machine, and does not merely hold what may be part of one.
    pub fn is_vm(&self) -> bool {
        self.program.is_some() || self.holds.vms > 0 || self.holds.vcpus > 0
    }
}

impl ProcessId {
    /// Stands for it where VMs are counted: a UUID of version 8 (RFC 9562), which no manager gives.
    pub fn uuid(self) -> Uuid {
        let mut last = self.started.to_be_bytes();
        last[0] = last[0] & 0x3f | 0x80;
        Uuid::from_fields(self.pid, 0, 0x8000, &last)
    }

    /// The process that a UUID stands for, if it is one of those.
    pub fn of_uuid(uuid: Uuid) -> Option<Self> {
        let (pid, 0, 0x8000, last) = uuid.as_fields() else { return None };
        let mut last = *last;
        last[0] &= 0x3f;
        Some(Self { pid, started: u64::from_be_bytes(last) })
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pid, self.started)
    }
}
