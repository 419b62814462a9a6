//! What a profile asks, and what the VM has.

use super::{Case, failed, met};
use crate::{
    decide::{
        Outcome, Requirement,
        profile::{Ask, foreign_kinds},
        text::{bounded, quoted},
    },
    model::{Firmware, FirmwareKind, Posture, SecurityProfile, TpmKind},
};

pub(super) enum Said {
    /// No template of the VM asks it, or none is known.
    NothingAsked(Outcome),
    Asked(Requirement),
}

/// `None` where the rule is about no profile.
pub(super) fn say(rule: &str, case: &Case<'_>) -> Option<Said> {
    let ask = Ask::ALL.into_iter().find(|ask| ask.rule() == rule)?;
    let posture = &case.vm.posture;
    if case.lineage.template().is_none() {
        return Some(Said::NothingAsked(Outcome::Unknown));
    }
    let mut asking: Vec<_> =
        case.lineage.covering.iter().filter(|one| ask.is_asked(&one.profile)).collect();
    asking.sort_by_key(|one| ask.is_met(&one.profile, posture));
    let Some(template) = asking.first() else { return Some(Said::NothingAsked(Outcome::Met)) };
    let profile = &template.profile;
    let name = quoted(&template.name());
    let asked = format!("Template {name} asks for {}", wish(ask, profile));
    let found = found(ask, profile, posture);
    Some(Said::Asked(if ask.is_met(profile, posture) {
        met(rule, format!("{asked}, and {found}."))
    } else {
        failed(rule, format!("{asked}, and {found}."), remedy(ask))
    }))
}

fn wish(ask: Ask, profile: &SecurityProfile) -> String {
    match ask {
        Ask::Firmware => match profile.firmware {
            Some(FirmwareKind::Efi) => "EFI firmware",
            Some(FirmwareKind::Bios) | None => "a BIOS",
        },
        Ask::SecureBoot => "secure boot",
        Ask::Tpm => "a TPM",
        Ask::HostDevices => "no device of the host",
        Ask::SharedMemory => "no memory that others see",
        Ask::SharedDirectories => "no directory of the host",
        Ask::RawArguments => "no settings that the VM's manager has not looked at",
        Ask::Devices => {
            let kinds = profile.devices.iter().flatten().map(String::as_str);
            return format!("no devices but {}", bounded(&list(kinds, "none at all")));
        }
    }
    .to_owned()
}

/// What the VM has.
fn found(ask: Ask, profile: &SecurityProfile, posture: &Posture) -> String {
    const SILENT: &str = "nobody says what the VM has";
    let has = |all: &Option<Vec<String>>| match all.as_deref() {
        None => SILENT.to_owned(),
        Some([]) => "the VM has none".to_owned(),
        Some(all) => format!("the VM has {}", bounded(&list(all.iter().map(String::as_str), ""))),
    };
    match ask {
        Ask::Firmware => match posture.firmware {
            Some(Firmware::Efi) => "the VM has EFI firmware".to_owned(),
            Some(Firmware::Bios) => "the VM has a BIOS".to_owned(),
            None => SILENT.to_owned(),
        },
        Ask::SecureBoot => match posture.secure_boot {
            Some(true) => "the VM has it, with keys enrolled".to_owned(),
            Some(false) => "the VM has none".to_owned(),
            None => "nobody says that the VM has it, with keys enrolled".to_owned(),
        },
        Ask::Tpm => match posture.tpm {
            Some(TpmKind::Absent) => "the VM has none".to_owned(),
            Some(kind) => format!("the VM has one ({})", kind.as_str()),
            None => SILENT.to_owned(),
        },
        Ask::HostDevices => has(&posture.host_devices),
        Ask::SharedMemory => has(&posture.shared_memory),
        Ask::SharedDirectories => has(&posture.shared_directories),
        Ask::RawArguments => match posture.raw_arguments {
            Some(true) => "some reach the hypervisor",
            Some(false) => "none reach the hypervisor",
            None => "nobody says whether some reach the hypervisor",
        }
        .to_owned(),
        Ask::Devices if posture.devices.is_none() => SILENT.to_owned(),
        Ask::Devices => match list(foreign_kinds(profile, posture), "").as_str() {
            "" => "the VM has no others".to_owned(),
            kinds => format!("the VM has {}", bounded(kinds)),
        },
    }
}

const fn remedy(ask: Ask) -> &'static str {
    match ask {
        Ask::Firmware => "Give the VM the firmware that its template's profile names.",
        Ask::SecureBoot => "Give the VM firmware with secure boot and enrolled keys.",
        Ask::Tpm => "Give the VM a TPM.",
        Ask::HostDevices => "Take the host's devices from the VM, or allow them in the profile.",
        Ask::SharedMemory => "Take the shared memory from the VM, or allow it in the profile.",
        Ask::SharedDirectories => {
            "Take the host's directories from the VM, or allow them in the profile."
        }
        Ask::RawArguments => {
            "Describe the VM by its manager's own settings, or allow others in the profile."
        }
        Ask::Devices => "Take the other devices from the VM, or list their kinds in the profile.",
    }
}

fn list<'a>(entries: impl Iterator<Item = &'a str>, none: &str) -> String {
    let all: Vec<_> = entries.collect();
    if all.is_empty() { none.to_owned() } else { all.join(", ") }
}
