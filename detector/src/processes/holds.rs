//! What a process holds open that virtual machines are made of.
//!
//! Descriptors are known by what the kernel says they are: the name of an anonymous inode, which
//! nobody else can have, and the number of a device, whatever path it was opened by.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use detector_core::model::Holds;

use super::{
    procfs::{bounded, known_of, lossy, numbers},
    tap,
};

/// Descriptors of one process that are looked at.
const MOST: usize = 65_536;
/// Taps and devices that are remembered of one process.
const KEPT: usize = 64;

/// The major number of devices that `/proc/misc` lists.
const MISC: u32 = 10;
/// Devices by which a program drives a hypervisor of the kernel or what belongs to one.
const MISC_NAMES: [&str; 11] = [
    "acrn_hsm",
    "gunyah",
    "kvm",
    "mshv",
    "nitro_enclaves",
    "tun",
    "vboxdrv",
    "vboxdrvu",
    "vfio",
    "vhost-net",
    "vmmon",
];
const MAJOR_NAMES: [&str; 5] = ["ipvtap", "macvtap", "vfio", "vhost-vdpa", "vmmon"];
const TUN: &str = "tun";

/// The numbers of the devices that VMs are made of, which differ from host to host.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices {
    misc: BTreeMap<u32, &'static str>,
    major: BTreeMap<u32, &'static str>,
}

/// A table of descriptors: that of a process, or of a thread with one of its own.
pub(super) struct Table<'a> {
    /// `/proc/PID`, or `/proc/PID/task/TID`.
    pub(super) place: &'a Path,
    /// The process whose first thread has this table.
    pub(super) pid: Option<u32>,
    /// The inode of the daemon's own network namespace.
    pub(super) network: u64,
}

/// Why not all that a process holds is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unseen {
    #[error("it holds more descriptors than are looked at")]
    TooMany,
    #[error("its descriptors cannot be listed: {0}")]
    Unreadable(io::Error),
}

impl Devices {
    pub(super) fn read() -> Self {
        let text = |path: &str| bounded(Path::new(path), 64 << 10).unwrap_or_default();
        Self {
            misc: named(&text("/proc/misc"), &MISC_NAMES),
            major: named(&text("/proc/devices"), &MAJOR_NAMES),
        }
    }

    fn name(&self, (major, minor): (u32, u32)) -> Option<&'static str> {
        if major == MISC { self.misc.get(&minor) } else { self.major.get(&major) }.copied()
    }
}

/// Lines of a number and a name, of the names that are asked for.
fn named(text: &[u8], names: &'static [&'static str]) -> BTreeMap<u32, &'static str> {
    let lines = str::from_utf8(text).unwrap_or_default().lines();
    let read = |line: &str| {
        let (number, name) = line.trim().split_once(' ')?;
        let name = names.iter().find(|known| **known == name.trim())?;
        Some((number.parse().ok()?, *name))
    };
    lines.filter_map(read).collect()
}

/// Adds what a table of descriptors holds, of which no more than `room` are looked at, and says how
/// many were. A process that has ended holds nothing.
pub(super) fn collect(
    table: &Table<'_>,
    devices: &Devices,
    room: usize,
    holds: &mut Holds,
) -> Result<usize, Unseen> {
    let descriptors = match numbers(&table.place.join("fd")) {
        Ok(descriptors) => descriptors,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Unseen::Unreadable(error));
        }
        Err(_) => return Ok(0),
    };
    let (count, most) = (descriptors.len(), MOST.min(room));
    for descriptor in descriptors.into_iter().take(most) {
        let link = table.place.join("fd").join(descriptor.to_string());
        if let Ok(target) = fs::read_link(&link) {
            one(table, descriptor, (&link, &target), devices, holds);
        }
    }
    if count > most { Err(Unseen::TooMany) } else { Ok(count) }
}

fn one(
    table: &Table<'_>,
    descriptor: u32,
    (link, target): (&PathBuf, &PathBuf),
    devices: &Devices,
    holds: &mut Holds,
) {
    let name = target.as_os_str().as_bytes();
    if let Some(inode) = name.strip_prefix(b"anon_inode:") {
        if inode == b"kvm-vm" {
            holds.vms = holds.vms.saturating_add(1);
        } else if inode.starts_with(b"kvm-vcpu") {
            holds.vcpus = holds.vcpus.saturating_add(1);
        }
        return;
    }
    // Sockets and pipes are by far the most, and no devices.
    if !name.starts_with(b"/") {
        return;
    }
    let Some(stat) = known_of(link) else { return };
    if u32::from(stat.stx_mode) & libc::S_IFMT != libc::S_IFCHR {
        return;
    }
    match devices.name((stat.stx_rdev_major, stat.stx_rdev_minor)) {
        Some(TUN) => {
            let named = interface(&table.place.join("fdinfo").join(descriptor.to_string()));
            if let Ok(Some(name)) = named
                && holds.taps.len() < KEPT
                && let Some(tap) = tap::held(table.pid, descriptor, name, table.network)
            {
                holds.taps.insert(tap);
            }
        }
        Some(device) if holds.devices.len() < KEPT => {
            let misc = stat.stx_rdev_major == MISC;
            let path = if misc { format!("/dev/{device}") } else { lossy(name) };
            holds.devices.insert(path);
        }
        _ => {}
    }
}

/// The interface that a descriptor of `/dev/net/tun` is a queue of.
fn interface(info: &Path) -> io::Result<Option<String>> {
    let text = bounded(info, 4096)?;
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"iff:\t"));
    Ok(line.filter(|name| !name.is_empty()).map(|name| name.escape_ascii().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_devices() {
        let misc = b" 61 vboxdrvu\n232 kvm\n200 tun\n  x\n1\n227 mcelog\n";
        let found = named(misc, &MISC_NAMES);
        let expect = [(61, "vboxdrvu"), (200, "tun"), (232, "kvm")];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expect);
        assert!(named(b"\xff\xfe", &MISC_NAMES).is_empty());
    }

    /// A device is known by its number: one that is bound to another path, or opened by it, is the same.
    #[test]
    fn what_this_process_holds() {
        let devices = Devices::read();
        let place = Path::new("/proc/self");
        let pid = Some(std::process::id());
        let table = Table { place, pid, network: 0 };
        let look = || {
            let mut holds = Holds::default();
            assert!(collect(&table, &devices, MOST, &mut holds).is_ok());
            holds
        };
        let before = look();
        let Ok(_kvm) = fs::File::open("/dev/kvm") else {
            eprintln!("skipped: this machine has no /dev/kvm");
            return;
        };
        assert_eq!(before.vms, 0);
        assert!(look().devices.contains("/dev/kvm"));
    }
}
