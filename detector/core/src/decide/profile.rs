//! Whether a VM is what the profile of its template asks for.

use std::collections::BTreeSet;

use crate::model::{Firmware, FirmwareKind, Posture, SecurityProfile, TpmKind};

/// One thing that a profile can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    Firmware,
    SecureBoot,
    Tpm,
    HostDevices,
    SharedMemory,
    SharedDirectories,
    RawArguments,
    Devices,
}

impl Ask {
    pub const ALL: [Self; 8] = [
        Self::Firmware,
        Self::SecureBoot,
        Self::Tpm,
        Self::HostDevices,
        Self::SharedMemory,
        Self::SharedDirectories,
        Self::RawArguments,
        Self::Devices,
    ];

    /// The @id of the rule of the built-in policy that asks it.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Firmware => "profile-firmware",
            Self::SecureBoot => "profile-secure-boot",
            Self::Tpm => "profile-tpm",
            Self::HostDevices => "profile-host-devices",
            Self::SharedMemory => "profile-shared-memory",
            Self::SharedDirectories => "profile-shared-directories",
            Self::RawArguments => "profile-raw-arguments",
            Self::Devices => "profile-devices",
        }
    }

    /// What the schema calls the fact that it is met.
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::Firmware => "meetsFirmware",
            Self::SecureBoot => "meetsSecureBoot",
            Self::Tpm => "meetsTpm",
            Self::HostDevices => "meetsHostDevices",
            Self::SharedMemory => "meetsSharedMemory",
            Self::SharedDirectories => "meetsSharedDirectories",
            Self::RawArguments => "meetsRawArguments",
            Self::Devices => "meetsDevices",
        }
    }
}

/// What the profile asks and the VM is not, or nobody says that it is: a posture that is silent meets
/// nothing.
pub fn unmet(profile: &SecurityProfile, posture: &Posture) -> BTreeSet<Ask> {
    Ask::ALL.into_iter().filter(|ask| !ask.is_met(profile, posture)).collect()
}

impl Ask {
    /// Whether the profile says anything about it.
    pub(super) fn is_asked(self, profile: &SecurityProfile) -> bool {
        match self {
            Self::Firmware => profile.firmware.is_some(),
            Self::SecureBoot => profile.secure_boot == Some(true),
            Self::Tpm => profile.tpm == Some(true),
            Self::HostDevices => profile.host_devices == Some(false),
            Self::SharedMemory => profile.shared_memory == Some(false),
            Self::SharedDirectories => profile.shared_directories == Some(false),
            Self::RawArguments => profile.raw_arguments == Some(false),
            Self::Devices => profile.devices.is_some(),
        }
    }

    pub(super) fn is_met(self, profile: &SecurityProfile, posture: &Posture) -> bool {
        let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_some_and(Vec::is_empty);
        !self.is_asked(profile)
            || match self {
                Self::Firmware => {
                    posture.firmware.is_some() && posture.firmware == profile.firmware.map(kind)
                }
                Self::SecureBoot => posture.secure_boot == Some(true),
                Self::Tpm => posture.tpm.is_some_and(|tpm| tpm != TpmKind::Absent),
                Self::HostDevices => is_empty(&posture.host_devices),
                Self::SharedMemory => is_empty(&posture.shared_memory),
                Self::SharedDirectories => is_empty(&posture.shared_directories),
                Self::RawArguments => posture.raw_arguments == Some(false),
                Self::Devices => {
                    posture.devices.is_some() && foreign_kinds(profile, posture).next().is_none()
                }
            }
    }
}

/// The kinds of device that the VM has and the profile does not list.
pub(super) fn foreign_kinds<'a>(
    profile: &'a SecurityProfile,
    posture: &'a Posture,
) -> impl Iterator<Item = &'a str> {
    let listed = |kind: &&String| profile.devices.as_ref().is_none_or(|all| all.contains(*kind));
    let kinds = posture.devices.iter().flat_map(|kinds| kinds.keys());
    kinds.filter(move |kind| !listed(kind)).map(String::as_str)
}

const fn kind(asked: FirmwareKind) -> Firmware {
    match asked {
        FirmwareKind::Bios => Firmware::Bios,
        FirmwareKind::Efi => Firmware::Efi,
    }
}

#[cfg(test)]
mod tests;
