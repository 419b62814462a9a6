use detector_core::model::{Medium, MediumSource};

use super::*;

/// What libvirt 9.0 says of a running domain, less its PCI controllers.
const RUNNING: &str = include_str!("running.xml");

const UUID: &str = "5f0b1c3e-8f57-4d8e-9f7a-3a6c1d2e4f50";

fn domain(inner: &str) -> String {
    format!("<domain type='kvm'><name>v</name><uuid>{UUID}</uuid>{inner}</domain>")
}

fn read(inner: &str) -> Result<Vm, String> {
    parse(&domain(inner), PowerState::Running, &Context::default())
        .map_err(|error| error.to_string())
}

fn shown(medium: &Medium) -> String {
    let role = medium.role.as_str();
    match &medium.source {
        MediumSource::File(file) => {
            let format = file.format.as_deref().unwrap_or("-");
            format!("{role} {} {format}", file.path.display())
        }
        MediumSource::Remote(what) => format!("{role} remote({what})"),
    }
}

fn media(inner: &str) -> Vec<String> {
    read(inner).unwrap().media.iter().map(shown).collect()
}

#[test]
fn a_running_domain() {
    let vm = parse(RUNNING, PowerState::Running, &Context::default()).unwrap();
    assert_eq!((vm.uuid.to_string().as_str(), vm.name.as_str()), (UUID, "web1"));
    let nics: Vec<_> =
        vm.nics.iter().map(|nic| (nic.mac.to_string(), nic.port.clone().unwrap())).collect();
    let nic = |mac: &str, port: &str| (mac.to_owned(), port.to_owned());
    assert_eq!(nics, [nic("52:54:00:aa:00:01", "vnet0"), nic("52:54:00:aa:00:02", "vnet1")]);
    let media: Vec<_> = vm.media.iter().map(shown).collect();
    assert_eq!(
        media,
        [
            "disk /var/lib/libvirt/images/top.qcow2 qcow2",
            "disk /var/lib/libvirt/images/base.raw raw",
            "network remote(network boot through 52:54:00:aa:00:01)",
        ]
    );
}

const DISKS: &str = "
    <disk type='file' device='cdrom'><target dev='sda'/></disk>
    <disk type='file' device='cdrom'><source file='/iso'/></disk>
    <disk type='block' device='disk'><driver type='raw'/><source dev='/dev/vg/a'/></disk>
    <disk type='file'><driver type='qcow2'/><source file='/b'/></disk>
    <disk type='file' device='floppy'><source file='/f'/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/></interface>";

#[test]
fn boot_order() {
    let devices = |inner: &str| format!("<devices>{inner}</devices>");
    let cases: &[(&str, String, &[&str])] = &[
        ("a disk when nothing is said", devices(DISKS), &["disk /dev/vg/a raw"]),
        (
            "classes in their order",
            format!("<os><boot dev='fd'/><boot dev='network'/><boot dev='hd'/></os>{}", devices(DISKS)),
            &[
                "floppy /f raw",
                "network remote(network boot through 52:54:00:00:00:01)",
                "disk /dev/vg/a raw",
            ],
        ),
        (
            "an empty drive is nothing",
            format!("<os><boot dev='cdrom'/></os>{}", devices(DISKS)),
            &[],
        ),
        (
            "devices before classes",
            format!(
                "<os><boot dev='hd'/></os>{}",
                devices(
                    "<disk type='file'><source file='/c'/><boot order='10'/></disk>
                     <disk type='file'><source file='/d'/></disk>
                     <interface type='user'><mac address='52:54:00:00:00:01'/><boot order='9'/></interface>
                     <hostdev type='pci'><boot order='2'/></hostdev>
                     <disk device='cdrom'><source file='/e'/><boot order='1'/></disk>"
                )
            ),
            &[
                "cdrom /e raw",
                "disk remote(a host device (<hostdev>))",
                "network remote(network boot through 52:54:00:00:00:01)",
                "disk /c raw",
            ],
        ),
        (
            "firmware, kernel and the disk under it",
            format!(
                "<os><loader readonly='yes' type='pflash'>/ovmf</loader><nvram>/n</nvram>
                 <kernel>/k</kernel><initrd>/i</initrd><boot dev='cdrom'/></os>{}",
                devices(DISKS)
            ),
            &["firmware /ovmf raw", "variables /n raw", "kernel /k raw", "initrd /i raw", "disk /dev/vg/a raw"],
        ),
        (
            "disks that are elsewhere",
            devices(
                "<disk type='network'><source protocol='rbd' name='pool/img'/><boot order='1'/></disk>
                 <disk type='volume'><source pool='p' volume='v'/><boot order='2'/></disk>
                 <disk type='file'><source file='/s'><slices><slice type='storage'/></slices></source><boot order='3'/></disk>
                 <disk type='file'><source file='rel'/><boot order='4'/></disk>
                 <disk type='file'><target dev='vdz'/><boot order='5'/></disk>
                 <disk type='nvme'><source type='pci'/><boot order='6'/></disk>"
            ),
            &[
                "disk remote(network rbd pool/img)",
                "disk remote(volume p v)",
                "disk remote(a slice of an image)",
                "disk remote(\"rel\", which is relative to a directory of its manager)",
                "disk remote(disk vdz without a source)",
                "disk remote(nvme)",
            ],
        ),
        (
            "a stated backing chain counts, since the hypervisor uses it",
            devices(
                "<disk type='file'><driver type='qcow2'/><source file='/t'/>
                   <backingStore type='block'><format type='qcow2'/><source dev='/dev/m'/>
                     <backingStore type='network'><format type='raw'/><source protocol='nbd' name='x'/></backingStore>
                   </backingStore></disk>"
            ),
            &["disk /t qcow2", "disk remote(network nbd x)"],
        ),
        (
            "code beside the boot order",
            format!(
                "{}<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'>
                 <arg value='-cpu'/><arg value='host'/><arg value='--drive'/><arg value='file=/evil'/>
                 <env name='LD_PRELOAD' value='/evil.so'/></commandline>",
                devices(
                    "<interface type='bridge'><mac address='52:54:00:00:00:01'/><rom file='/rom'/></interface>"
                )
            ),
            &[
                "firmware /rom raw",
                "disk remote(an argument of QEMU (--drive))",
                "disk remote(a variable of QEMU's environment (LD_PRELOAD))",
            ],
        ),
        (
            "code by way of devices, settings and overrides",
            "<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'>
             <arg value='-device'/><arg value='loader,file=/evil'/>
             <arg value='-set'/><arg value='device.ua-n.romfile=/evil'/>
             <arg value='-L'/><arg value='/evil'/></commandline>
             <override xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><device alias='ua-n'/></override>"
                .to_owned(),
            &[
                "disk remote(an argument of QEMU (-device))",
                "disk remote(an argument of QEMU (-set))",
                "disk remote(an argument of QEMU (-L))",
                "disk remote(properties of QEMU's devices (override))",
            ],
        ),
        (
            "what firmware is made of",
            "<os><loader format='qcow2' type='pflash'>/ovmf</loader>
             <nvram template='/vars' templateFormat='raw'>/var/nvram/v</nvram>
             <dtb>/dtb</dtb><acpi><table type='slic'>/slic</table></acpi></os>
             <bootloader>/usr/bin/pygrub</bootloader>
             <sysinfo type='fwcfg'><entry name='opt/a' file='/ignition'/><entry name='opt/b'>x</entry></sysinfo>
             <sysinfo type='smbios'><system><entry name='serial'>x</entry></system></sysinfo>"
                .to_owned(),
            &[
                "firmware /ovmf qcow2",
                "firmware /vars raw",
                "firmware /dtb raw",
                "firmware /slic raw",
                "firmware remote(a boot loader that the host runs (/usr/bin/pygrub))",
                "firmware /ignition raw",
                "variables /var/nvram/v raw",
            ],
        ),
        (
            "a kernel and its shim",
            format!("<os><kernel>/k</kernel><shim>/s</shim><cmdline>quiet</cmdline></os>{}", devices(DISKS)),
            &["kernel /k raw", "kernel /s raw", "disk /dev/vg/a raw"],
        ),
        (
            "a kernel that is told of a root may have any",
            format!(
                "<os><kernel>/k</kernel><cmdline>quiet root=LABEL=x</cmdline></os>{}",
                devices(&format!(
                    "{DISKS}<memory model='nvdimm'><source><path>/pmem</path></source></memory>
                     <filesystem><source dir='/srv'/></filesystem>"
                ))
            ),
            &[
                "kernel /k raw",
                "disk /dev/vg/a raw",
                "cdrom /iso raw",
                "disk /b qcow2",
                "floppy /f raw",
                "disk /pmem raw",
                "disk remote(a directory of the host (/srv))",
            ],
        ),
        (
            "whoever has the boot menu chooses",
            format!(
                "<os><bootmenu enable='yes'/></os>{}",
                devices(
                    "<disk><source file='/a'/><boot order='1'/></disk><disk><source file='/b'/></disk>
                     <interface><mac address='52:54:00:00:00:01'/></interface>
                     <interface><mac address='52:54:00:00:00:02'/><rom enabled='no'/></interface>"
                )
            ),
            &[
                "disk /a raw",
                "disk /b raw",
                "network remote(network boot through 52:54:00:00:00:01)",
            ],
        ),
        (
            "no boot menu",
            format!("<os><bootmenu enable='no'/></os>{}", devices(DISKS)),
            &["disk /dev/vg/a raw"],
        ),
        (
            "devices of the host that are booted from",
            devices(
                "<redirdev bus='usb'><boot order='1'/></redirdev>
                 <hostdev type='usb'><boot order='2'/><rom file='/rom'/></hostdev>"
            ),
            &[
                "firmware /rom raw",
                "disk remote(a host device (<redirdev>))",
                "disk remote(a host device (<hostdev>))",
            ],
        ),
        (
            "disks that others serve or have opened",
            devices(
                "<disk type='vhostuser'><source type='unix' path='/run/v'/><boot order='1'/></disk>
                 <disk type='dir'><source dir='/d'/><boot order='2'/></disk>
                 <disk type='file'><source file='/approved' fdgroup='g'/><boot order='3'/></disk>
                 <disk type='file'><shareable/><source file='/s'/><boot order='4'/></disk>"
            ),
            &[
                "disk remote(vhostuser)",
                "disk remote(dir /d)",
                "disk remote(a file that was handed over open)",
                "disk /s raw",
            ],
        ),
        (
            "arguments of other hypervisors, and settings by QEMU's own",
            "<commandline xmlns='http://libvirt.org/schemas/domain/xen/1.0'><arg value='-hda'/></commandline>
             <commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'>
             <arg value='-fw_cfg'/><arg value='name=opt/x,file=/evil'/></commandline>"
                .to_owned(),
            &[
                "disk remote(arguments of its hypervisor that libvirt has not read)",
                "disk remote(an argument of QEMU (-fw_cfg))",
            ],
        ),
    ];
    for (what, inner, expect) in cases {
        assert_eq!(media(inner), *expect, "{what}");
    }
}

/// Of what lies beneath a medium, libvirt repeats what the medium says.
#[test]
fn a_stated_base_lies_beneath_its_medium() {
    let inner = "<devices><disk type='file'><driver type='qcow2'/><source file='/d/t'/>
        <backingStore type='file'><format type='raw'/><source file='/etc/shadow'/></backingStore>
        </disk></devices>";
    let beneath: Vec<_> = read(inner)
        .unwrap()
        .media
        .into_iter()
        .map(|medium| match medium.source {
            MediumSource::File(file) => file.beneath.map(|top| top.display().to_string()),
            MediumSource::Remote(_) => panic!(),
        })
        .collect();
    assert_eq!(beneath, [None, Some("/d/t".to_owned())]);
}

#[test]
fn nics() {
    let mac = "<mac address='52:54:00:00:00:01'/>";
    let cases: &[(&str, &[u16], &[&str])] = &[
        ("", &[], &[]),
        ("<vlan><tag id='42'/></vlan>", &[], &[]),
        ("<vlan trunk='yes'><tag id='42'/><tag id='7' nativeMode='untagged'/></vlan>", &[0, 42], &[]),
        (
            "<filterref filter='clean-traffic'><parameter name='IP' value='192.0.2.7'/>
             <parameter name='IPV6' value='2001:db8::7'/><parameter name='X' value='y'/></filterref>",
            &[],
            &["192.0.2.7/32", "2001:db8::7/128"],
        ),
    ];
    for (inner, vlans, addresses) in cases {
        let inner = format!("<devices><interface type='bridge'>{mac}{inner}</interface></devices>");
        let nic = read(&inner).unwrap().nics.remove(0);
        let found: Vec<_> = nic.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            (nic.vlans.as_slice(), found),
            (*vlans, addresses.iter().map(ToString::to_string).collect())
        );
        assert_eq!(nic.port, None);
    }
}

/// Where the filter learns addresses, so do we.
#[test]
fn the_filter_says_how_addresses_are_learned() {
    let cases = [
        ("<parameter name='CTRL_IP_LEARNING' value='dhcp'/>", Some(AddressRule::Dhcp)),
        ("<parameter name='CTRL_IP_LEARNING' value='any'/>", Some(AddressRule::FirstCome)),
        ("<parameter name='CTRL_IP_LEARNING' value='none'/>", None),
        ("<parameter name='DHCPSERVER' value='192.0.2.1'/>", None),
    ];
    for (parameter, rule) in cases {
        let inner = format!(
            "<devices><interface><mac address='52:54:00:00:00:01'/>\
             <filterref filter='x'>{parameter}</filterref></interface></devices>"
        );
        assert_eq!(read(&inner).unwrap().nics[0].rule, rule, "{parameter}");
    }
}

#[test]
fn what_cannot_be_understood_refuses_the_vm() {
    let interface = |inner: &str| format!("<devices><interface>{inner}</interface></devices>");
    let mac = "<mac address='52:54:00:00:00:01'/>";
    let cases: &[(String, &str)] = &[
        (interface(""), "no <mac"),
        (interface("<mac address='x'/>"), "not a MAC"),
        (interface("<mac address='01:00:5e:00:00:01'/>"), "station"),
        (interface(&format!("{mac}<target dev='a b'/>")), "network interface"),
        (interface(&format!("{mac}<target dev='an-interface-name'/>")), "network interface"),
        (interface(&format!("{mac}<vlan trunk='yes'><tag id='4095'/></vlan>")), "VLAN id"),
        (
            interface(&format!("{mac}<filterref><parameter name='IP' value='x'/></filterref>")),
            "neither an address",
        ),
        ("<os><boot dev='usb'/></os>".to_owned(), "expected hd"),
        (
            "<devices><disk device='tape'/><disk><boot order='x'/></disk></devices>".to_owned(),
            "boot order",
        ),
        ("<devices>".to_owned() + &"<interface/>".repeat(257) + "</devices>", "256 interfaces"),
        (
            "<devices>".to_owned()
                + &(0..65)
                    .map(|n| format!("<disk><source file='/{n}'/><boot order='1'/></disk>"))
                    .collect::<String>()
                + "</devices>",
            "64 media",
        ),
    ];
    for (inner, expected) in cases {
        let error = read(inner).unwrap_err();
        assert!(error.starts_with("line ") && error.contains(expected), "{inner}: {error}");
    }
    let texts = [
        "",
        "<domain/>",
        "<network><name>v</name></network>",
        "<domain><name>v</name><uuid>x</uuid></domain>",
        "<domain><name> </name></domain>",
        "<!DOCTYPE d [<!ENTITY a \"b\">]><domain><name>&a;</name></domain>",
        "<domain><name>v</name>",
    ];
    for text in texts {
        assert!(parse(text, PowerState::Off, &Context::default()).is_err(), "{text}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let padding = " ".repeat(MAX_BYTES);
    assert!(read(&padding).unwrap_err().contains("expected at most"));
    assert!(read(&"<a/>".repeat(MAX_NODES as usize)).is_err());
    assert!(read(&"<a>".repeat(90_000)).unwrap_err().contains("deep"));
    // Nothing of fifty megabytes is looked at.
    let padding = " ".repeat(50 << 20);
    assert!(read(&padding).unwrap_err().contains("expected at most"));
    let deep = "<backingStore><source file='/x'/>".repeat(100) + &"</backingStore>".repeat(100);
    let disk = format!("<devices><disk><source file='/y'/>{deep}</disk></devices>");
    assert!(read(&disk).unwrap_err().contains("backing stores"));
}

#[test]
fn ways_out_that_no_guard_can_hold() {
    const QEMU: &str = "xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'";
    let nic = |kind: &str, inner: &str| {
        let mac = "<mac address='52:54:00:00:00:01'/>";
        format!("<devices><interface type='{kind}'>{mac}{inner}</interface></devices>")
    };
    let pci = "<source><address type='pci' domain='0x0000' bus='0x05' slot='0x10' function='0x2'/></source>";
    let cases = [
        (nic("bridge", "<source bridge='br0'/>"), ""),
        (nic("network", "<source network='default'/>"), ""),
        (nic("user", ""), "user-mode 52:54:00:00:00:01 user slirp"),
        (nic("user", "<backend type='passt'/>"), "user-mode 52:54:00:00:00:01 user passt"),
        (nic("hostdev", pci), "passthrough 52:54:00:00:00:01 hostdev 0000:05:10.2"),
        (
            nic("vhostuser", "<source type='unix' path='/run/vhu0' mode='server'/>"),
            "vhost-user 52:54:00:00:00:01 vhostuser /run/vhu0 (server)",
        ),
        (
            nic("direct", "<source dev='eth0' mode='passthrough'/>"),
            "macvtap 52:54:00:00:00:01 direct eth0 (passthrough)",
        ),
        (nic("direct", "<source dev='eth0' mode='bridge'/>"), ""),
        (
            nic("mcast", "<source address='230.0.0.1' port='5558'/>"),
            "socket 52:54:00:00:00:01 mcast 230.0.0.1:5558",
        ),
        (
            format!("<devices><hostdev mode='subsystem' type='pci'>{pci}</hostdev></devices>"),
            "passthrough PCI device 0000:05:10.2",
        ),
        ("<devices><hostdev type='scsi'/></devices>".to_owned(), ""),
        (
            format!(
                "<q:commandline {QEMU}><q:arg value='-netdev'/><q:arg value='user,id=x'/>\
                 <q:arg value='-device'/><q:arg value='virtio-net,netdev=x'/></q:commandline>"
            ),
            "user-mode user,id=x",
        ),
    ];
    for (inner, expect) in cases {
        let ways = read(&inner).unwrap().attachments;
        let shown: Vec<_> =
            ways.iter().map(|way| format!("{} {}", way.kind.as_str(), way.what)).collect();
        assert_eq!(shown.join("; "), expect, "{inner}");
    }
}

/// Of a volume the domain says the pool and the name; where it is, libvirt says elsewhere.
#[test]
fn volumes() {
    let name = |volume: &str| ("p".to_owned(), volume.to_owned());
    let volumes = [
        (name("file"), Volume::File("/srv/file".to_owned())),
        (name("lv"), Volume::Block("/dev/vg/lv".to_owned(), None)),
        (name("rbd"), Volume::Elsewhere),
    ];
    let context = Context { volumes: volumes.into(), ..Context::default() };
    for (volume, expect) in [
        ("file", "disk /srv/file qcow2"),
        ("lv", "disk /dev/vg/lv qcow2"),
        ("rbd", "disk remote(volume p rbd)"),
        ("none", "disk remote(volume p none)"),
    ] {
        let disk = format!(
            "<devices><disk type='volume' device='disk'><driver type='qcow2'/>
             <source pool='p' volume='{volume}'/></disk></devices>"
        );
        let vm = parse(&domain(&disk), PowerState::Running, &context).unwrap();
        assert_eq!(vm.media.iter().map(shown).collect::<Vec<_>>(), [expect]);
    }
}

/// Of a device that is a disk it says elsewhere what it is a snapshot of; that is about the device itself and
/// nothing that is in it.
#[test]
fn snapshots() {
    let volume = Volume::Block("/dev/vg/lv".to_owned(), Some("/dev/vg/base".to_owned()));
    let context = Context {
        volumes: [(("p".to_owned(), "lv".to_owned()), volume)].into(),
        origins: [
            ("/dev/vg/a".to_owned(), Some("/dev/vg/base".to_owned())),
            ("/dev/vg/b".to_owned(), None),
        ]
        .into(),
        ..Context::default()
    };
    let block = |path: &str| format!("type='block' device='disk'><source dev='{path}'/>");
    for (disk, format, expect) in [
        (block("/dev/vg/a"), "raw", Some("/dev/vg/base")),
        (block("/dev/vg/a"), "qcow2", None),
        (block("/dev/vg/b"), "raw", None),
        (block("/dev/vg/c"), "raw", None),
        (block("/dev/vg/lv"), "raw", Some("/dev/vg/base")),
        (
            "type='volume' device='disk'><source pool='p' volume='lv'/>".into(),
            "raw",
            Some("/dev/vg/base"),
        ),
        ("type='block' device='cdrom'><source dev='/dev/vg/a'/>".into(), "raw", None),
    ] {
        let disk = format!("<disk {disk}<driver type='{format}'/></disk>");
        let text = domain(&format!(
            "<os><boot dev='hd'/><boot dev='cdrom'/></os><devices>{disk}</devices>"
        ));
        let vm = parse(&text, PowerState::Running, &context).unwrap();
        let MediumSource::File(file) = &vm.media[0].source else { panic!("{disk}") };
        let origin = file.origin.as_ref().map(|origin| origin.path.to_str().unwrap());
        assert_eq!(origin, expect, "{disk}");
    }
}

/// Variables are looked at by themselves: a VM does not boot from them.
#[test]
fn variables() {
    for (os, expect) in [
        ("", ""),
        ("<nvram/>", ""),
        ("<nvram template='/t.fd'/>", "firmware /t.fd raw"),
        ("<nvram template='/t.fd'>/v.fd</nvram>", "firmware /t.fd raw; variables /v.fd raw"),
        ("<nvram format='qcow2'>/v.qcow2</nvram>", "variables /v.qcow2 qcow2"),
        ("<nvram type='file'><source file='/v.fd'/></nvram>", "variables /v.fd raw"),
        ("<nvram type='block'><source dev='/dev/vg/v'/></nvram>", "variables /dev/vg/v raw"),
        (
            "<nvram type='network'><source protocol='iscsi'/></nvram>",
            "variables remote(variables of the kind network)",
        ),
        (
            "<varstore template='/t.json' path='/v.json'/>",
            "firmware /t.json raw; variables /v.json raw",
        ),
    ] {
        let media = read(&format!("<os>{os}</os>")).unwrap().media;
        let shown: Vec<_> = media.iter().map(shown).collect();
        assert_eq!(shown.join("; "), expect, "{os}");
    }
}

/// What the network says holds for NICs on it, and for VLANs where the NIC says nothing of its own.
#[test]
fn networks() {
    let network = "<network><name>n</name><vlan trunk='yes'><tag id='7'/></vlan>
        <ip address='192.0.2.1' prefix='24'><dhcp><host mac='52:54:00:00:00:01' ip='192.0.2.7'/>
        </dhcp></ip></network>";
    let networks = [Network::parse(network).unwrap()].into();
    let context = Context { networks, ..Context::default() };
    let own = "<vlan trunk='yes'><tag id='5'/></vlan>";
    for (kind, source, more, vlans, settings) in [
        ("network", "network='n'", "", [7].as_slice(), 1),
        ("network", "network='n'", own, &[5], 1),
        ("network", "network='other'", "", &[], 0),
        ("bridge", "bridge='n'", "", &[], 0),
    ] {
        let nic = format!(
            "<devices><interface type='{kind}'><mac address='52:54:00:00:00:01'/>
             <source {source}/>{more}</interface></devices>"
        );
        let vm = parse(&domain(&nic), PowerState::Running, &context).unwrap();
        let nic = &vm.nics[0];
        assert_eq!((nic.vlans.as_slice(), nic.settings.len()), (vlans, settings), "{source}");
    }
}
