//! The measured security state of a VM.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the VM's manager says of the machine that the guest runs on. `None` is "nobody says", which is
/// never the same as "there is none": a list without entries, [`TpmKind::Absent`],
/// [`LaunchSecurity::Absent`].
///
/// Texts are chosen by whoever has described the VM: they are bounded, and raw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posture {
    pub firmware: Option<Firmware>,
    /// True only when the firmware has secure boot and comes with keys enrolled: without keys it takes
    /// any boot loader. The guest's own variables can say otherwise later on.
    pub secure_boot: Option<bool>,
    /// Whether the firmware's variables (keys, boot entries) come from a file of the VM's own, which no
    /// digest covers.
    #[serde(default)]
    pub stored_variables: Option<bool>,
    pub tpm: Option<TpmKind>,
    /// `1.2` or `2.0`.
    pub tpm_version: Option<String>,
    /// How memory and registers are kept from the host.
    pub launch_security: Option<LaunchSecurity>,
    /// The processor's architecture (`x86_64`) and the machine (`pc-q35-7.2`).
    pub architecture: Option<String>,
    pub machine: Option<String>,
    /// The program that plays the machine.
    pub emulator: Option<String>,
    /// What a kernel that is booted directly is told: `root=`, `init=` decide what it runs.
    pub kernel_arguments: Option<String>,
    /// Devices of the host, or of a person's desk, that the VM drives itself: `pci 0000:05:10.2`.
    pub host_devices: Option<Vec<String>>,
    /// Memory that other processes see or other VMs have too: `ivshmem NAME`, `memfd shared`.
    pub shared_memory: Option<Vec<String>>,
    /// Directories of the host that the guest mounts: `virtiofs /srv/data`.
    pub shared_directories: Option<Vec<String>>,
    /// How many devices of each kind it has, by the name of the element: `disk`, `graphics`.
    pub devices: Option<BTreeMap<String, u32>>,
    /// Whether settings reach the hypervisor that its manager has not looked at.
    pub raw_arguments: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    Bios,
    Efi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TpmKind {
    Absent,
    /// A program of the host plays it.
    Emulator,
    /// The host's own.
    Passthrough,
    /// Somebody else's, by a socket.
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchSecurity {
    Absent,
    Sev,
    SevSnp,
    Tdx,
    S390Pv,
    /// A kind that is not known here.
    Other,
}

impl Firmware {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Efi => "efi",
        }
    }
}

impl TpmKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Emulator => "emulator",
            Self::Passthrough => "passthrough",
            Self::External => "external",
        }
    }
}

impl LaunchSecurity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Sev => "sev",
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
            Self::S390Pv => "s390-pv",
            Self::Other => "other",
        }
    }
}

impl Posture {
    /// Takes in what another source says of the same VM, and names what the two disagree on. Nothing
    /// gets better by it: of two statements neither is believed, a list has what either lists, and what
    /// one source denies is denied.
    pub fn join(&mut self, other: &Self) -> Vec<&'static str> {
        let mut disagree = Vec::new();
        let mut either = |name, differs| {
            if differs {
                disagree.push(name);
            }
        };
        either("firmware", agree(&mut self.firmware, other.firmware.as_ref()));
        either("TPM", agree(&mut self.tpm, other.tpm.as_ref()));
        either("TPM version", agree(&mut self.tpm_version, other.tpm_version.as_ref()));
        either("launch security", agree(&mut self.launch_security, other.launch_security.as_ref()));
        either("architecture", agree(&mut self.architecture, other.architecture.as_ref()));
        either("emulator", agree(&mut self.emulator, other.emulator.as_ref()));
        let arguments = agree(&mut self.kernel_arguments, other.kernel_arguments.as_ref());
        either("kernel arguments", arguments);
        either("machine", agree(&mut self.machine, other.machine.as_ref()));
        let stated = (self.secure_boot, other.secure_boot);
        self.secure_boot = stated.0.into_iter().chain(stated.1).min();
        either("secure boot", matches!(stated, (Some(one), Some(two)) if one != two));
        self.stored_variables =
            self.stored_variables.into_iter().chain(other.stored_variables).max();
        self.raw_arguments = self.raw_arguments.into_iter().chain(other.raw_arguments).max();
        unite(&mut self.host_devices, other.host_devices.as_ref());
        unite(&mut self.shared_memory, other.shared_memory.as_ref());
        unite(&mut self.shared_directories, other.shared_directories.as_ref());
        for (kind, count) in other.devices.iter().flatten() {
            let known = self.devices.get_or_insert_default().entry(kind.clone()).or_default();
            *known = (*known).max(*count);
        }
        disagree
    }
}

/// Leaves what both say or only one says. True when they say different things.
fn agree<T: Clone + PartialEq>(one: &mut Option<T>, other: Option<&T>) -> bool {
    let differs = matches!((one.as_ref(), other), (Some(one), Some(other)) if one != other);
    if differs {
        *one = None;
    } else if one.is_none() {
        *one = other.cloned();
    }
    differs
}

fn unite(one: &mut Option<Vec<String>>, other: Option<&Vec<String>>) {
    let Some(other) = other else { return };
    let known = one.get_or_insert_default();
    let news: Vec<_> = other.iter().filter(|entry| !known.contains(entry)).cloned().collect();
    known.extend(news);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opinion_makes_nothing_better() {
        let list = |entry: &str| Some(vec![entry.to_owned()]);
        let one = Posture {
            firmware: Some(Firmware::Efi),
            secure_boot: Some(true),
            stored_variables: Some(true),
            tpm: Some(TpmKind::Emulator),
            host_devices: list("pci a"),
            devices: Some([("disk".to_owned(), 2)].into()),
            raw_arguments: Some(true),
            ..Posture::default()
        };
        let other = Posture {
            firmware: Some(Firmware::Bios),
            secure_boot: Some(false),
            stored_variables: Some(false),
            machine: Some("pc".to_owned()),
            host_devices: list("pci b"),
            devices: Some([("disk".to_owned(), 1), ("graphics".to_owned(), 1)].into()),
            raw_arguments: Some(false),
            ..Posture::default()
        };
        let expect = Posture {
            firmware: None,
            secure_boot: Some(false),
            stored_variables: Some(true),
            tpm: Some(TpmKind::Emulator),
            machine: Some("pc".to_owned()),
            host_devices: Some(vec!["pci a".to_owned(), "pci b".to_owned()]),
            devices: Some([("disk".to_owned(), 2), ("graphics".to_owned(), 1)].into()),
            raw_arguments: Some(true),
            ..Posture::default()
        };
        let mut joined = one.clone();
        assert_eq!(joined.join(&other), ["firmware", "secure boot"]);
        assert_eq!(joined, expect);
        for (mut this, that) in
            [(one.clone(), Posture::default()), (Posture::default(), one.clone())]
        {
            assert_eq!(this.join(&that), [""; 0]);
            assert_eq!(this, one);
        }
    }
}
