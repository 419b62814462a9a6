use super::*;

/// A profile that asks everything there is to ask, and a VM that is all of it.
fn strict() -> (SecurityProfile, Posture) {
    let profile = SecurityProfile {
        firmware: Some(FirmwareKind::Efi),
        secure_boot: Some(true),
        tpm: Some(true),
        host_devices: Some(false),
        shared_memory: Some(false),
        shared_directories: Some(false),
        raw_arguments: Some(false),
        devices: Some(["disk".to_owned(), "interface".to_owned()].into()),
    };
    let posture = Posture {
        firmware: Some(Firmware::Efi),
        secure_boot: Some(true),
        tpm: Some(TpmKind::Emulator),
        host_devices: Some(Vec::new()),
        shared_memory: Some(Vec::new()),
        shared_directories: Some(Vec::new()),
        raw_arguments: Some(false),
        devices: Some([("disk".to_owned(), 2)].into()),
        ..Posture::default()
    };
    (profile, posture)
}

fn one() -> Option<Vec<String>> {
    Some(vec!["one".to_owned()])
}

/// (what is asked, a VM that is not so, one of which nobody says)
type Case = (Ask, fn(&mut Posture), fn(&mut Posture));

#[test]
fn each_ask_is_met_by_what_is_stated_alone() {
    let cases: [Case; 8] = [
        (Ask::Firmware, |of| of.firmware = Some(Firmware::Bios), |of| of.firmware = None),
        (Ask::SecureBoot, |of| of.secure_boot = Some(false), |of| of.secure_boot = None),
        (Ask::Tpm, |of| of.tpm = Some(TpmKind::Absent), |of| of.tpm = None),
        (Ask::HostDevices, |of| of.host_devices = one(), |of| of.host_devices = None),
        (Ask::SharedMemory, |of| of.shared_memory = one(), |of| of.shared_memory = None),
        (
            Ask::SharedDirectories,
            |of| of.shared_directories = one(),
            |of| of.shared_directories = None,
        ),
        (Ask::RawArguments, |of| of.raw_arguments = Some(true), |of| of.raw_arguments = None),
        (
            Ask::Devices,
            |of| of.devices = Some([("hostdev".to_owned(), 1)].into()),
            |of| of.devices = None,
        ),
    ];
    let (profile, good) = strict();
    assert_eq!(unmet(&profile, &good), [].into());
    assert_eq!(unmet(&profile, &Posture::default()), Ask::ALL.into(), "silence meets nothing");
    for (ask, other, silent) in cases {
        for change in [other, silent] {
            let mut posture = good.clone();
            change(&mut posture);
            assert_eq!(unmet(&profile, &posture), [ask].into());
            assert_eq!(unmet(&SecurityProfile::default(), &posture), [].into());
        }
    }
}

#[test]
fn what_a_profile_leaves_open_is_not_asked() {
    let lenient = SecurityProfile {
        secure_boot: Some(false),
        tpm: Some(false),
        host_devices: Some(true),
        shared_memory: Some(true),
        shared_directories: Some(true),
        raw_arguments: Some(true),
        ..SecurityProfile::default()
    };
    assert_eq!(unmet(&lenient, &Posture::default()), [].into());
}
