//! A hypervisor host on a machine of its own: Debian's libvirt, three VMs that start with the host, and the Debian
//! package.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use detector_guest::Mac;
use detector_tests::artefacts;
use detector_tests::capture::Frame;
use detector_tests::frames::Station;
use detector_tests::guest::hex;
use detector_tests::machine::{Files, Machine, NIC};

/// What the machine is seen as: the bridge with its uplink.
pub(crate) const HOST: Station = Station { mac: BRIDGE, ip: Ipv4Addr::new(192, 0, 2, 1) };
const BRIDGE: Mac = [0x52, 0x54, 0, 0, 0, 1];
const UPLINK: Mac = [0x52, 0x54, 0, 0, 0, 2];

/// It boots what a template approves.
pub(crate) const APPROVED: Vm = Vm { name: "approved", number: 0x10, kernel: "approved" };
/// The same, and a person quarantines it.
pub(crate) const SUSPECT: Vm = Vm { name: "suspect", number: 0x11, kernel: "approved" };
/// Nobody has approved what it boots.
pub(crate) const ROGUE: Vm = Vm { name: "rogue", number: 0x12, kernel: "rogue" };

/// Longer than a VM takes to its first frame, under an emulator inside of another.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A VM whose firmware asks for an address, again and again, since nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vm {
    pub(crate) name: &'static str,
    number: u8,
    kernel: &'static str,
}

impl Vm {
    pub(crate) const ALL: [Self; 3] = [APPROVED, SUSPECT, ROGUE];

    pub(crate) const fn mac(&self) -> Mac {
        [0x52, 0x54, 0, 0, 0, self.number]
    }

    /// The one that has sent the frame.
    pub(crate) fn of(frame: &Frame) -> Option<Self> {
        Self::ALL.into_iter().find(|vm| frame.source() == Some(vm.mac()))
    }

    fn domain(&self) -> String {
        let Self { name, number, kernel } = self;
        format!(
            "<domain type='qemu'><name>{name}</name>
<uuid>d37ec707-0000-4000-8000-0000000000{number:02x}</uuid>
<memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>/var/lib/libvirt/images/{kernel}</kernel></os>
<features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<interface type='bridge'><mac address='{mac}'/><source bridge='br0'/><target dev='{name}'/>
<model type='virtio'/><rom enabled='no'/></interface>
<memballoon model='none'/></devices></domain>
",
            mac = hex(self.mac())
        )
    }
}

/// The verdict may take its time under an emulator, and firmware does not ask for ever.
const CONFIG: &str = r#"mode = "observe"

[admission]
timeout = "9m"

[[alerts.journald]]
name = "journal"
"#;

/// VMs start as soon as there is their bridge, which systemd-networkd makes whenever it comes to it.
const AFTER_THE_BRIDGE: &str = "[Unit]
Wants=sys-subsystem-net-devices-br0.device
After=sys-subsystem-net-devices-br0.device
";

/// Loading the programs takes a hundred times longer than on a host.
const EMULATED: &str = "[Service]
TimeoutStartSec=10min
WatchdogSec=5min
";

/// iPXE stands for an operating system that speaks at once. Whoever may not write into the image of another VM
/// brings one of its own.
const INSTALL: &str = "
images=/var/lib/libvirt/images
cp /boot/ipxe.lkrn $images/approved
(cat /boot/ipxe.lkrn; echo) >$images/rogue
mkdir -p /etc/detector/templates.d
cat >/etc/detector/templates.d/ipxe.toml <<END
id = \"ipxe\"
version = \"1\"
status = \"approved\"
[[image]]
role = \"kernel\"
sha256 = \"$(sha256sum $images/approved | cut -d' ' -f1)\"
END
mkdir -p /etc/libvirt/qemu/autostart
for vm in /etc/libvirt/qemu/*.xml; do
    ln -s $vm /etc/libvirt/qemu/autostart/
done
";

/// What these VMs boot does not shut them down, and libvirt-guests would wait for that.
const HASTE: &str = "systemctl disable libvirt-guests\n";

/// The configuration is there already.
const PACKAGE: &str = "dpkg --force-confold --install /detector.deb; rm /detector.deb\n";

pub(crate) fn host() -> Result<Machine> {
    host_with(|_| Ok(()))
}

/// The same with further files.
pub(crate) fn host_with(more: impl FnOnce(&Files) -> Result<()>) -> Result<Machine> {
    let files = Files::new()?;
    let network = "/etc/systemd/network";
    files.text(
        &format!("{network}/10-br0.netdev"),
        &format!("[NetDev]\nName=br0\nKind=bridge\nMACAddress={}\n", hex(BRIDGE)),
    )?;
    files.text(
        &format!("{network}/10-br0.network"),
        &format!(
            "[Match]\nName=br0\n[Network]\nAddress={}/24\nLinkLocalAddressing=no\n\
             ConfigureWithoutCarrier=yes\n",
            HOST.ip
        ),
    )?;
    files.text(
        &format!("{network}/20-uplink.network"),
        &format!("[Match]\nMACAddress={NIC}\n[Network]\nBridge=br0\nLinkLocalAddressing=no\n"),
    )?;
    files.text("/etc/systemd/system/libvirtd.service.d/bridge.conf", AFTER_THE_BRIDGE)?;
    files.text("/etc/systemd/system/detector.service.d/emulated.conf", EMULATED)?;
    for vm in Vm::ALL {
        files.text(&format!("/etc/libvirt/qemu/{}.xml", vm.name), &vm.domain())?;
    }
    files.copy("/detector.deb", &artefacts::packages("detector", "deb")?[0])?;
    files.text("/etc/detector/config.toml", CONFIG)?;
    more(&files)?;
    Machine::new(&files, &format!("{INSTALL}{HASTE}{PACKAGE}"))
}

/// Whether the frame is the host's own.
pub(crate) fn is_hosts(frame: &Frame) -> bool {
    frame.source().is_some_and(|source| [BRIDGE, UPLINK].contains(&source))
}
