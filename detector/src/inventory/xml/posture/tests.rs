use detector_core::model::{Firmware, LaunchSecurity, Posture, PowerState, TpmKind};

use super::super::parse;

fn read(inner: &str) -> Posture {
    let uuid = "5f0b1c3e-8f57-4d8e-9f7a-3a6c1d2e4f50";
    let text = format!("<domain type='kvm'><name>v</name><uuid>{uuid}</uuid>{inner}</domain>");
    parse(&text, PowerState::Running, &crate::inventory::xml::Context::default()).unwrap().posture
}

fn strings<const N: usize>(texts: [&str; N]) -> Option<Vec<String>> {
    Some(texts.map(str::to_owned).to_vec())
}

#[test]
fn firmware_and_secure_boot() {
    use Firmware::{Bios, Efi};
    let hvm = "<type arch='x86_64' machine='q35'>hvm</type>";
    let feature =
        |name: &str, enabled: &str| format!("<feature enabled='{enabled}' name='{name}'/>");
    let features = |boot: &str, keys: &str| {
        let both = feature("secure-boot", boot) + &feature("enrolled-keys", keys);
        format!("<os firmware='efi'>{hvm}<firmware>{both}</firmware></os>")
    };
    let cases = [
        ("", None, None),
        ("<os><type>exe</type></os>", None, None),
        ("<os><type arch='aarch64'>hvm</type></os>", None, Some(false)),
        (&format!("<os>{hvm}</os>"), Some(Bios), Some(false)),
        (&format!("<os firmware='bios'>{hvm}</os>"), Some(Bios), Some(false)),
        (&format!("<os>{hvm}<loader type='rom'>/x</loader></os>"), None, None),
        (&format!("<os firmware='efi'>{hvm}</os>"), Some(Efi), None),
        (&features("yes", "yes"), Some(Efi), Some(true)),
        (&features("yes", "no"), Some(Efi), Some(false)),
        (&features("no", "yes"), Some(Efi), Some(false)),
        (
            &format!(
                "<os firmware='efi'>{hvm}<firmware>{}</firmware></os>",
                feature("secure-boot", "yes")
            ),
            Some(Efi),
            None,
        ),
        // Able to, but with which keys nobody says.
        (
            &format!("<os>{hvm}<loader secure='yes' type='pflash'>/ovmf</loader></os>"),
            Some(Efi),
            None,
        ),
        (
            &format!("<os>{hvm}<loader secure='no' type='pflash'>/ovmf</loader></os>"),
            Some(Efi),
            Some(false),
        ),
    ];
    for (inner, firmware, secure_boot) in cases {
        let posture = read(inner);
        assert_eq!((posture.firmware, posture.secure_boot), (firmware, secure_boot), "{inner}");
    }
}

/// Nobody has looked at what is in the file of the firmware's variables.
#[test]
fn stored_variables() {
    let hvm = "<type arch='x86_64' machine='q35'>hvm</type>";
    let stateless = "<loader type='pflash' stateless='yes'>/ovmf</loader>";
    for (os, expected) in [
        (format!("<os>{hvm}</os>"), Some(false)),
        (format!("<os>{hvm}<nvram>/v</nvram></os>"), Some(true)),
        (format!("<os firmware='efi'>{hvm}</os>"), Some(true)),
        (format!("<os>{hvm}{stateless}</os>"), Some(false)),
        (format!("<os>{hvm}{stateless}<nvram>/v</nvram></os>"), Some(true)),
        (format!("<os>{hvm}<loader type='rom'>/x</loader></os>"), None),
    ] {
        assert_eq!(read(&os).stored_variables, expected, "{os}");
    }
}

#[test]
fn what_is_not_there_is_known_not_to_be_there() {
    let posture = read("<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>");
    let expect = Posture {
        firmware: Some(Firmware::Bios),
        secure_boot: Some(false),
        stored_variables: Some(false),
        tpm: Some(TpmKind::Absent),
        tpm_version: None,
        launch_security: Some(LaunchSecurity::Absent),
        architecture: Some("x86_64".to_owned()),
        machine: Some("pc-q35-7.2".to_owned()),
        emulator: None,
        kernel_arguments: None,
        host_devices: strings([]),
        shared_memory: strings([]),
        shared_directories: strings([]),
        devices: Some([].into()),
        raw_arguments: Some(false),
    };
    assert_eq!(posture, expect);
}

#[test]
fn each_part() {
    type Case = (&'static str, fn(&mut Posture));
    let cases: &[Case] = &[
        (
            "<devices><tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices>",
            |expect| {
                expect.tpm = Some(TpmKind::Emulator);
                expect.tpm_version = Some("2.0".to_owned());
                expect.devices = Some([("tpm".to_owned(), 1)].into());
            },
        ),
        ("<launchSecurity type='sev-snp'/>", |expect| {
            expect.launch_security = Some(LaunchSecurity::SevSnp);
        }),
        ("<os><cmdline>root=/dev/vda ro</cmdline></os>", |expect| {
            expect.kernel_arguments = Some("root=/dev/vda ro".to_owned());
        }),
        ("<launchSecurity type='new'/>", |expect| {
            expect.launch_security = Some(LaunchSecurity::Other);
        }),
        (
            "<devices><emulator>/x</emulator><controller type='pci'/>
             <hostdev type='pci'><source><address bus='0x05' slot='0x10' function='0x2'/></source></hostdev>
             <hostdev type='usb'><source><vendor id='0x046d'/><product id='0xc52b'/></source></hostdev>
             <hostdev type='mdev'><source><address uuid='u'/></source></hostdev>
             <hostdev type='scsi'><source><adapter name='scsi_host0'/></source></hostdev>
             <redirdev bus='usb' type='spicevmc'/><smartcard mode='host'/></devices>",
            |expect| {
                expect.emulator = Some("/x".to_owned());
                expect.host_devices = strings([
                    "pci 0000:05:10.2",
                    "usb 046d:c52b",
                    "mdev u",
                    "scsi scsi_host0",
                    "usb redirected by spicevmc",
                    "smartcard host",
                ]);
                let kinds = [("hostdev", 4), ("redirdev", 1), ("smartcard", 1)];
                expect.devices = Some(kinds.map(|(kind, n)| (kind.to_owned(), n)).into());
            },
        ),
        (
            "<devices><disk device='lun' type='block'><source dev='/dev/sdz'/></disk></devices>",
            |expect| {
                expect.host_devices = strings(["disk block /dev/sdz"]);
                expect.devices = Some([("disk".to_owned(), 1)].into());
            },
        ),
        (
            "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
             <cpu><numa><cell id='0' memAccess='shared'/><cell id='1'/></numa></cpu>
             <devices><shmem name='my'><model type='ivshmem-plain'/></shmem></devices>",
            |expect| {
                expect.shared_memory =
                    strings(["ivshmem-plain my", "memfd shared", "NUMA cell 0 shared"]);
                expect.devices = Some([("shmem".to_owned(), 1)].into());
            },
        ),
        (
            "<devices><filesystem><driver type='virtiofs'/><source dir='/srv'/></filesystem></devices>",
            |expect| {
                expect.shared_directories = strings(["virtiofs /srv"]);
                expect.devices = Some([("filesystem".to_owned(), 1)].into());
            },
        ),
        (
            "<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'/>",
            |expect| expect.raw_arguments = Some(true),
        ),
    ];
    for (inner, change) in cases {
        let mut expect = read("");
        change(&mut expect);
        assert_eq!(read(inner), expect, "{inner}");
    }
}

#[test]
fn lists_are_bounded() {
    let many = "<redirdev type='tcp'/>".repeat(500) + &format!("<{}/>", "k".repeat(5000));
    let kinds: String = (0..500).map(|n| format!("<k{n}/>")).collect();
    let posture = read(&format!("<devices>{many}{kinds}</devices>"));
    assert_eq!(posture.host_devices.unwrap().len(), 64);
    let devices = posture.devices.unwrap();
    assert_eq!((devices.len(), devices["redirdev"]), (64, 500));
    assert!(devices.keys().all(|kind| kind.len() <= 160));
}
