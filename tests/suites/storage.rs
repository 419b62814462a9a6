//! The files of a VM move to the sandbox's pool, with a real libvirt and real QEMU, whatever happens in between.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "storage/evidence.rs"]
mod evidence;
#[path = "storage/half_way.rs"]
mod half_way;
#[path = "storage/killed.rs"]
mod killed;
#[path = "storage/offline.rs"]
mod offline;
#[path = "storage/provisioners.rs"]
mod provisioners;
#[path = "storage/refused.rs"]
mod refused;
#[path = "storage/replaced.rs"]
mod replaced;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use detector::remediate::contain::{Contained, Containment};
use detector::remediate::storage::{Off, Report, Task};
use detector_tests::guest::{Guest, Image};
use detector_tests::hands::{Answer, Deed, Order, Place, Then};
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::{link, run, wait};
use sha2::{Digest, Sha256};

const HANDS: &str = env!("CARGO_BIN_EXE_hands");
const POOL: &str = "sandbox";
const URI: &str = "qemu:///system";
/// Under emulation.
const BOOT: Duration = Duration::from_secs(60);

/// A host with a libvirt, a pool for the sandbox, and a directory of images that is no pool.
struct Lab {
    host: Host,
    image: Image,
}

impl Lab {
    fn new() -> Self {
        let host = Host::new().unwrap();
        link::bridge(host.network(), "br0").unwrap();
        for directory in ["images", "sandbox", "state"] {
            fs::create_dir(host.path(directory)).unwrap();
        }
        let image = Image::make(host.directory(), "base", "a lab image").unwrap();
        Self { host, image }
    }

    fn libvirt(&self) -> Libvirt<'_> {
        let libvirt = Libvirt::start(&self.host, None).unwrap();
        let target = self.sandbox();
        libvirt
            .virsh(&["pool-define-as", POOL, "dir", "--target", target.to_str().unwrap()])
            .unwrap();
        libvirt.virsh(&["pool-start", POOL]).unwrap();
        libvirt
    }

    fn images(&self) -> PathBuf {
        self.host.path("images")
    }

    fn sandbox(&self) -> PathBuf {
        self.host.path("sandbox")
    }

    fn place(&self) -> Place {
        Place::new(&self.host.path("state"), &[self.images()])
    }

    /// A VM with an overlay, and a raw disk with a hole in it.
    fn define(&self, libvirt: &Libvirt<'_>, guest: &Guest) -> Files {
        let overlay = self.images().join(format!("{}.qcow2", guest.name));
        let data = self.images().join(format!("{}.img", guest.name));
        self.image.overlay(&overlay).unwrap();
        let file = File::create(&data).unwrap();
        file.set_len(24 << 20).unwrap();
        // More than a segment, not aligned, and the rest of it zeroes.
        file.write_all_at(&pattern(3 << 20), (9 << 20) + 12_345).unwrap();
        let former = guest.overlay(self.host.directory()).display().to_string();
        let xml = guest
            .domain(&self.image, "br0", self.host.directory())
            .replace(&former, overlay.to_str().unwrap())
            .replace(
                "<interface type='bridge'>",
                &format!(
                    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
                     <target dev='vdb' bus='virtio'/></disk><interface type='bridge'>",
                    data.display()
                ),
            );
        libvirt.define_as(guest, &xml).unwrap();
        Files { overlay, data }
    }

    fn task(&self, guest: &Guest) -> Task {
        Task { uri: URI.to_owned(), domain: guest.uuid.parse().unwrap(), pool: POOL.to_owned() }
    }

    fn order(&self, guest: &Guest) -> Order {
        Order::Move { task: self.task(guest), at: self.place() }
    }

    fn ask(&self, order: &Order) -> Answer {
        Deed::begin(&self.host, HANDS, order, &Then::GoOn).unwrap().end().unwrap().unwrap()
    }

    fn moved(&self, guest: &Guest) -> Report {
        match self.ask(&self.order(guest)) {
            Answer::Moved(report) => report,
            other => panic!("{other:?}"),
        }
    }

    fn copies(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.sandbox()).unwrap();
        let mut copies: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        copies.sort();
        copies
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.host.print_logs();
        }
    }
}

/// The files of a VM.
struct Files {
    overlay: PathBuf,
    data: PathBuf,
}

impl Files {
    fn digests(&self) -> [String; 2] {
        [&self.overlay, &self.data].map(|path| digest(path))
    }

    fn are_there(&self) -> [bool; 2] {
        [&self.overlay, &self.data].map(|path| path.exists())
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn digest(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files that a domain is described by, or runs from.
fn named(libvirt: &Libvirt<'_>, guest: &Guest) -> Vec<PathBuf> {
    let xml = libvirt.virsh(&["dumpxml", "--inactive", &guest.name]).unwrap();
    let sources = xml.split("<source file='").skip(1);
    sources.filter_map(|rest| rest.split('\'').next()).map(PathBuf::from).collect()
}

fn is_defined(libvirt: &Libvirt<'_>, guest: &Guest) -> bool {
    libvirt.virsh(&["domstate", &guest.name]).is_ok()
}

/// One with user-mode networking has no port on any bridge.
#[test]
fn a_vm_without_a_port_is_suspended_or_stopped_by_its_manager() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    lab.define(&libvirt, &guest);
    let xml = libvirt.virsh(&["dumpxml", "--inactive", "web"]).unwrap();
    let xml = xml.replace("<interface type='bridge'>", "<interface type='user'>");
    libvirt.define_as(&guest, &xml.replace("<source bridge='br0'/>", "")).unwrap();
    let domain = guest.uuid.parse().unwrap();
    let contain = |how| lab.ask(&Order::Contain { uri: URI.to_owned(), domain, how });
    let state = || libvirt.virsh(&["domstate", "web"]).unwrap().trim().to_owned();
    assert_eq!(contain(Containment::Suspend), Answer::Contained(Contained::Off));
    libvirt.start_domain(&guest).unwrap();
    for _ in 0..2 {
        assert_eq!(contain(Containment::Suspend), Answer::Contained(Contained::Suspended));
        assert_eq!(state(), "paused");
    }
    // Who is suspended hears nothing, and is not asked to shut down.
    assert_eq!(contain(Containment::Stop), Answer::Contained(Contained::Off));
    assert_eq!(state(), "shut off");
    // One that would be gone with its process is defined first.
    libvirt.start_domain(&guest).unwrap();
    libvirt.virsh(&["undefine", "web"]).unwrap();
    assert_eq!(contain(Containment::Stop), Answer::Contained(Contained::Off));
    assert_eq!(state(), "shut off");
}

#[test]
fn a_vm_that_runs_is_shut_off_and_moved_and_runs_from_there() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    let files = lab.define(&libvirt, &guest);
    let plan = Order::Plan { task: lab.task(&guest), at: lab.place() };
    libvirt.start_domain(&guest).unwrap();
    match lab.ask(&plan) {
        Answer::Storage(error) => assert!(error.to_string().contains("web is running"), "{error}"),
        other => panic!("{other:?}"),
    }
    // The lab's guest listens to no button: it is asked, in vain, and then its power is taken.
    let off = |force| Order::ShutOff {
        uri: URI.to_owned(),
        domain: guest.uuid.parse().unwrap(),
        grace: Duration::from_millis(700),
        force,
    };
    match lab.ask(&off(false)) {
        Answer::Storage(error) => {
            assert!(error.to_string().contains("virsh destroy web"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(libvirt.virsh(&["domstate", "web"]).unwrap().trim(), "running");
    assert_eq!(lab.ask(&off(true)), Answer::Off(Off::Forced));
    assert_eq!(lab.ask(&off(true)), Answer::Off(Off::Already));

    let before = files.digests();
    let allocated = |path: &Path| {
        let mut du = Command::new("du");
        du.args(["--block-size=1", path.to_str().unwrap()]);
        let result = du.output();
        let said = run::checked(&du, result).unwrap();
        said.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let taken = allocated(&files.data);
    match lab.ask(&plan) {
        Answer::Plan(plan) => {
            let targets: Vec<_> = plan.moves.iter().map(|(target, ..)| target.as_str()).collect();
            assert_eq!(targets, ["vda", "vdb"]);
            assert!(plan.free > plan.needs && plan.needs < 24 << 20, "{plan:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(lab.copies(), [] as [PathBuf; 0]);
    let report = lab.moved(&guest);
    let places: Vec<_> = report.moved.iter().map(|moved| moved.to.clone()).collect();
    assert_eq!(report.moved.iter().map(|one| one.sha256.to_string()).collect::<Vec<_>>(), before);
    assert_eq!(places.iter().map(|path| digest(path)).collect::<Vec<_>>(), before);
    assert_eq!(named(&libvirt, &guest), places);
    assert_eq!(files.are_there(), [false, false]);
    assert!(allocated(&places[1]) <= taken + (2 << 20), "a hole is a hole");
    let pools = libvirt.virsh(&["pool-list", "--all", "--name"]).unwrap();
    assert_eq!(pools.trim(), POOL, "what was made for the move is gone");
    assert_eq!(lab.moved(&guest), report, "it is done once");

    libvirt.start_domain(&guest).unwrap();
    wait::until("the guest to run from there", BOOT, || {
        let console = fs::read(guest.console(lab.host.directory())).unwrap_or_default();
        Ok(String::from_utf8_lossy(&console).contains("guest: ").then_some(()))
    })
    .unwrap();
    libvirt.destroy(&guest).unwrap();
    // Back to where it was, by the same way.
    let images = lab.images();
    let target = images.to_str().unwrap();
    libvirt.virsh(&["pool-create-as", "images", "dir", "--target", target]).unwrap();
    let back = Task { pool: "images".to_owned(), ..lab.task(&guest) };
    match lab.ask(&Order::Move { task: back, at: lab.place() }) {
        Answer::Moved(back) => assert!(back.moved.iter().all(|one| one.to.starts_with(&images))),
        other => panic!("{other:?}"),
    }
    assert_eq!(lab.copies(), [] as [PathBuf; 0]);
}

/// A VM that does not run here, since its firmware is not there: only its files count.
#[test]
fn variables_of_firmware_and_volumes_move_too_and_what_is_only_read_stays() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    let files = lab.define(&libvirt, &guest);
    let images = lab.images();
    let target = images.to_str().unwrap();
    libvirt.virsh(&["pool-create-as", "images", "dir", "--target", target]).unwrap();
    let variables = images.join("web_VARS.fd");
    fs::write(&variables, pattern(4096)).unwrap();
    let disc = images.join("disc.iso");
    fs::write(&disc, "a disc").unwrap();
    let data = format!("<source file='{}'/>", files.data.display());
    let xml = libvirt.virsh(&["dumpxml", "--inactive", "web"]).unwrap();
    let kernel = xml.find("<kernel>").unwrap()..xml.find("</os>").unwrap();
    let firmware = format!(
        "<loader readonly='yes' type='pflash'>/nowhere/CODE.fd</loader><nvram>{}</nvram>",
        variables.display()
    );
    let xml = xml
        .replace(&xml[kernel], &firmware)
        .replace(
            &format!("<disk type='file' device='disk'>\n      <driver name='qemu' type='raw'/>\n      {data}"),
            "<disk type='volume' device='disk'>\n      <driver name='qemu' type='raw'/>\n      <source pool='images' volume='web.img'/>",
        )
        .replace(
            "<interface ",
            &format!(
                "<disk type='file' device='cdrom'><source file='{}'/><target dev='sda' bus='sata'/></disk><interface ",
                disc.display()
            ),
        );
    assert!(xml.contains("type='volume'") && xml.contains("pflash"), "{xml}");
    libvirt.define_as(&guest, &xml).unwrap();
    let before = [&files.overlay, &files.data, &variables].map(|path| digest(path));
    let report = lab.moved(&guest);
    let targets: Vec<_> = report.moved.iter().map(|one| one.target.as_str()).collect();
    assert_eq!(targets, ["vda", "vdb", "nvram"]);
    assert_eq!(report.stays.iter().map(|one| one.target.as_str()).collect::<Vec<_>>(), ["sda"]);
    let after: Vec<_> = report.moved.iter().map(|one| digest(&one.to)).collect();
    assert_eq!(after, before);
    assert!(!variables.exists() && !files.data.exists() && disc.exists());
    let xml = libvirt.virsh(&["dumpxml", "--inactive", "web"]).unwrap();
    assert!(xml.contains(&format!(">{}</nvram>", report.moved[2].to.display())), "{xml}");
    assert!(!xml.contains("volume"), "{xml}");
    let pools = libvirt.virsh(&["pool-list", "--name"]).unwrap();
    assert_eq!(
        pools.split_whitespace().collect::<Vec<_>>(),
        ["images", POOL],
        "others' pools stay"
    );
}
