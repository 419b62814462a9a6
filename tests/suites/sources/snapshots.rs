//! Disks that are volumes of a volume group, as libvirt's logical pools say. The tools of LVM are stood in for:
//! what they would say of the group is written down, and its volumes are loop devices. `registry/volumes.rs` has
//! the real ones, on kernels that have them.

use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use detector_tests::block::LoopDevice;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::guest::Guest;
use detector_tests::libvirt::Libvirt;
use detector_tests::wait;
use sha2::{Digest, Sha256};

use super::{Lab, PATIENCE};

const SIZE: usize = 1 << 20;

/// A volume group: its directory among the devices, and the devices that its volumes are.
struct Group {
    directory: PathBuf,
    devices: Vec<LoopDevice>,
}

impl Group {
    fn make(name: &str, volumes: &[(&str, PathBuf)]) -> anyhow::Result<Self> {
        let devices = volumes.iter().map(|(_, file)| LoopDevice::attach(file));
        let devices = devices.collect::<anyhow::Result<Vec<_>>>()?;
        let group = Self { directory: Path::new("/dev").join(name), devices };
        std::fs::create_dir(&group.directory)?;
        for ((volume, _), device) in volumes.iter().zip(&group.devices) {
            symlink(&device.path, group.directory.join(volume))?;
        }
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Puts what answers in the place of LVM's tools where libvirt looks for them, in this host alone.
fn stand_in(lab: &Lab, group: &str, volumes: &[(&str, &str)]) {
    let tools = lab.host.path("lvm");
    std::fs::create_dir(&tools).unwrap();
    let listed: String = volumes
        .iter()
        .map(|(name, origin)| {
            format!(
                "  {name}#{origin}#uuid-{name}#/dev/loop0(0)#linear#1#{SIZE}#4096#{SIZE}#-wi-a-----\n"
            )
        })
        .collect();
    let answers = [
        ("lvs", listed),
        ("vgs", format!("  {}:0\n", SIZE * volumes.len())),
        ("pvs", format!("  /dev/loop0 {group}\n")),
        ("vgscan", String::new()),
        ("vgchange", String::new()),
    ];
    for (name, answer) in answers {
        let path = tools.join(name);
        std::fs::write(&path, format!("#!/bin/sh\ncat <<'END'\n{answer}END\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let places = format!("lowerdir={}:/usr/sbin", tools.display());
    lab.host
        .check(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &places, "/usr/sbin"]))
        .unwrap();
}

/// What a snapshot was taken from is libvirt's word, which suffices where a word does; a domain that names the
/// device only is known as well.
#[test]
fn a_snapshot_of_a_volume_is_known_by_its_origin() {
    let lab = Lab::new();
    let content = |name: &str, changes: &[u8]| {
        let path = lab.host.path(name);
        std::fs::write(&path, vec![0x5a; SIZE]).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(changes, 4096).unwrap();
        path
    };
    let volumes = [
        ("base", content("base.lv", b"")),
        ("fresh", content("fresh.lv", b"")),
        ("used", content("used.lv", b"what its guest has written")),
        ("other", content("other.lv", b"of somewhere else")),
        ("strange", content("strange.lv", b"and written to")),
    ];
    let approved = std::fs::read(&volumes[0].1).unwrap();
    let approved: String =
        Sha256::digest(approved).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("detector-lab-{}", lab.host.number());
    let group = match Group::make(&name, &volumes) {
        Ok(group) => group,
        Err(error) => return println!("skipped: no loop devices ({error:#})"),
    };
    let origins =
        [("base", ""), ("fresh", "base"), ("used", "base"), ("other", ""), ("strange", "other")];
    stand_in(&lab, &name, &origins);

    let mut manifest = lab.image.manifest("lab").unwrap();
    manifest.push_str(&format!("[[image]]\nrole = \"disk\"\nsha256 = \"{approved}\"\n"));
    let templates = vec![("lab.toml".to_owned(), manifest)];
    let settings = Settings { evidence: "declared", templates, ..lab.settings() };
    let mut daemon = Daemon::configure(&lab.host, &settings).unwrap();
    let libvirt = Libvirt::start(&lab.host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let pool = format!(
        "<pool type='logical'><name>{name}</name><source><name>{name}</name><format type='lvm2'/></source>
         <target><path>{}</path></target></pool>",
        group.directory.display()
    );
    let path = lab.host.path("pool.xml");
    std::fs::write(&path, pool).unwrap();
    libvirt.virsh(&["pool-create", path.to_str().unwrap()]).unwrap();
    let described = libvirt.virsh(&["vol-dumpxml", "used", "--pool", &name]).unwrap();
    assert!(described.contains("<backingStore>"), "{described}");

    for (volume, number, status, said) in [
        ("fresh", 63, "granted", "The digests of what the VM boots prove"),
        ("used", 64, "granted", "was written to; its manager says that it is a snapshot of"),
        ("strange", 65, "isolated", "no such image of a registered template"),
    ] {
        let guest = Guest::new(volume, number);
        let file = guest.overlay(lab.host.directory()).display().to_string();
        let device = group.directory.join(volume).display().to_string();
        let xml = guest
            .domain(&lab.image, "br0", lab.host.directory())
            .replace("<disk type='file'", "<disk type='block'")
            .replace("type='qcow2'", "type='raw'")
            .replace(&format!("<source file='{file}'/>"), &format!("<source dev='{device}'/>"));
        libvirt.define_as(&guest, &xml).unwrap();
        wait::until("what it is a snapshot of", PATIENCE, || {
            let shown = daemon.ask(&["vm", "show", volume])?.json["media"].to_string();
            Ok(shown.contains("snapshot_of").then_some(()))
        })
        .unwrap();
        libvirt.start_domain(&guest).unwrap();
        let tap = libvirt.tap(&guest).unwrap();
        daemon.await_port(&tap, status, PATIENCE).unwrap();
        let shown = daemon.show(&["vm", "show", volume]).unwrap();
        assert!(shown.contains(said), "{volume}: {said:?} is not in: {shown}");
        libvirt.destroy(&guest).unwrap();
    }
}
