//! The disks of a VM that is off are changed in a machine of its own, whatever is on them and in whatever becomes of
//! who has asked for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use detector::remediate::provision::offline::Offline;
use detector::remediate::provision::{Disk, Ended, Outcome, Request, Subject};
use detector::remediate::storage::StorageError;
use detector_tests::guest::Guest;
use detector_tests::hands::{Answer, Deed, Order, Then};
use detector_tests::libvirt::Libvirt;
use detector_tests::offline::{self, Tree};
use detector_tests::{artefacts, wait};

use super::{BOOT, HANDS, Lab, POOL, URI};

const PUT: &str = "files = [{ path = \"/etc/agent/key\", content = \"approved\\n\", mode = \"0600\", owner = \"7:8\" }]";

struct Case<'a> {
    lab: &'a Lab,
    guest: Guest,
    disk: PathBuf,
}

impl<'a> Case<'a> {
    /// A VM with one raw disk in the pool of the sandbox.
    fn new(lab: &'a Lab, libvirt: &Libvirt<'_>) -> Self {
        let guest = Guest::new("off", 91);
        let disk = lab.sandbox().join(format!("{}-vda.img", guest.uuid));
        let xml = guest.with_raw_disk(&lab.image, "br0", lab.host.directory(), &disk);
        libvirt.define_as(&guest, &xml).unwrap();
        offline::initrd(&lab.host.path("appliance")).unwrap();
        Self { lab, guest, disk }
    }

    fn order(&self, work: &str, timeout: Duration) -> Order {
        let vm = Subject { uuid: self.guest.uuid.parse().unwrap(), name: self.guest.name.clone() };
        let disk = Disk {
            target: "vda".to_owned(),
            path: self.disk.clone(),
            format: "raw".to_owned(),
            sha256: None,
        };
        let elsewhere = Disk { path: self.lab.sandbox().join("another.img"), ..disk.clone() };
        let request = Box::new(Request::new("7-1", vm, vec![elsewhere, disk]));
        let work: Offline = toml::from_str(work).unwrap();
        let work = Offline {
            kernel: artefacts::kernel().unwrap(),
            initrd: self.lab.host.path("appliance"),
            memory_mib: 96,
            ..work
        };
        let (uri, pool) = (URI.to_owned(), POOL.to_owned());
        Order::Offline { uri, pool, request, work: Box::new(work), timeout }
    }

    fn change(&self, work: &str, timeout: Duration) -> Ended {
        match self.lab.ask(&self.order(work, timeout)) {
            Answer::Provisioned(ended) => *ended,
            other => panic!("{work}: {other:?}"),
        }
    }

    /// Nothing of a machine is left.
    fn is_clean(&self, libvirt: &Libvirt<'_>) -> bool {
        let left =
            self.lab.copies().iter().any(|path| path.to_string_lossy().contains("appliance"));
        !left && runs(libvirt, &self.guest) == "shut off"
    }
}

fn runs(libvirt: &Libvirt<'_>, guest: &Guest) -> String {
    libvirt.virsh(&["domstate", &guest.name]).unwrap().trim().to_owned()
}

fn tree() -> Tree {
    Tree::new().unwrap().text("etc/hostname", "web\n").unwrap()
}

fn bytes(path: &Path, byte: fn(usize) -> u8) {
    fs::write(path, (0..4 << 20).map(byte).collect::<Vec<_>>()).unwrap();
}

#[test]
fn what_is_missing_is_put_in_and_what_is_there_stays() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let case = Case::new(&lab, &libvirt);
    let tree = tree().with_shell().unwrap().text("etc/ssh/key", "of everybody's").unwrap();
    // A link in the place of a file is no way out.
    let tree = tree.link("srv", "etc/agent").unwrap().link("etc/agent/key", "/").unwrap();
    tree.disk(&case.disk).unwrap();
    let before = libvirt.virsh(&["dumpxml", "--inactive", &case.guest.name]).unwrap();
    let work = format!(
        "remove = [\"/etc/ssh/key\", \"/nowhere/at/all\"]\nmask = [\"telnet.socket\"]\n\
         run = [\"echo \\\"$0 ran\\\" > /etc/ran; echo one of its lines\"]\n{PUT}"
    );
    let ended = case.change(&work, BOOT);
    let Outcome::Done { changed: Some(true), message } = &ended.outcome else {
        panic!("{ended:?}")
    };
    assert!(message.contains("vda"), "{message}");
    assert!(ended.output.contains("one of its lines"), "{}", ended.output);
    assert_eq!(offline::content(&case.disk, "/etc/agent/key").unwrap(), "approved\n");
    let state = offline::state(&case.disk, "/etc/agent/key").unwrap();
    assert!(state.contains("Mode:  0600"), "{state}");
    let owner = state.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(owner.contains("User: 7 Group: 8"), "{owner}");
    assert_eq!(offline::content(&case.disk, "/etc/ssh/key").unwrap(), "");
    assert_eq!(offline::content(&case.disk, "/etc/ran").unwrap(), "/bin/sh ran\n");
    assert_eq!(offline::content(&case.disk, "/etc/hostname").unwrap(), "web\n");
    let mask = offline::state(&case.disk, "/etc/systemd/system/telnet.socket").unwrap();
    assert!(mask.contains("/dev/null"), "{mask}");
    // As after a crash: it finds that it is done.
    let again = case.change(&work.replace("run = ", "# run = "), BOOT);
    assert!(matches!(again.outcome, Outcome::Done { changed: Some(false), .. }), "{again:?}");
    assert_eq!(libvirt.virsh(&["dumpxml", "--inactive", &case.guest.name]).unwrap(), before);
    assert!(case.is_clean(&libvirt));
}

#[test]
fn what_is_hostile_or_hangs_costs_its_time_and_no_more() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let case = Case::new(&lab, &libvirt);
    type Make = fn(&Path);
    let with_shell: Make = |path| tree().with_shell().unwrap().disk(path).unwrap();
    let cases: &[(&str, Make, &str, u64, &str)] = &[
        ("zeroes", |path| bytes(path, |_| 0), PUT, 60, "no file system with a directory etc"),
        (
            "garbage",
            |path| bytes(path, |at| (at.wrapping_mul(2_654_435_761) >> 7) as u8),
            PUT,
            60,
            "no file system with a directory etc",
        ),
        (
            "a way out",
            |path| tree().link("etc/agent", "/detector").unwrap().disk(path).unwrap(),
            PUT,
            60,
            "a link leads out of the image",
        ),
        ("a failure", with_shell, "run = [\"exit 3\"]", 60, "it has ended with code 3"),
        (
            "a lie",
            with_shell,
            "run = ['''printf '\\n{\"event\":\"result\",\"ok\":true}\\n'; exit 1''']",
            60,
            "code 1",
        ),
        ("hangs", with_shell, "run = [\"sleep 1000\"]", 20, "has not ended in 20 s"),
        ("floods", with_shell, "run = [\"yes flood\"]", 20, "has not ended in 20 s"),
    ];
    for (name, make, work, seconds, expect) in cases {
        make(&case.disk);
        let ended = case.change(work, wait::scaled(Duration::from_secs(*seconds)));
        let outcome = format!("{:?}", ended.outcome);
        assert!(outcome.contains(expect), "{name}: {ended:?}");
        assert!(ended.output.len() <= 3 * 4096, "{name}: {}", ended.output.len());
        assert!(case.is_clean(&libvirt), "{name}");
    }
    // A VM that runs is left alone, and so is what is nowhere in the pool.
    libvirt.start_domain(&case.guest).unwrap();
    let refused = lab.ask(&case.order(PUT, BOOT));
    let Answer::Storage(StorageError::Refused(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("the VM runs"), "{why}");
    assert_eq!(runs(&libvirt, &case.guest), "running");
}

/// Whoever has asked for it is killed: the machine ends with it, and it is done by who asks once more.
#[test]
fn it_ends_with_the_daemon_and_is_taken_up_again() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let case = Case::new(&lab, &libvirt);
    tree().with_shell().unwrap().disk(&case.disk).unwrap();
    let order = case.order("run = [\"sleep 1000\"]", Duration::from_secs(600));
    let then = Then::WaitsFor("Told".to_owned());
    let mut deed = Deed::begin(&lab.host, HANDS, &order, &then).unwrap();
    deed.await_pause().unwrap();
    assert_eq!(runs(&libvirt, &case.guest), "running");
    drop(deed);
    wait::until("the machine to end", BOOT, || {
        Ok((runs(&libvirt, &case.guest) == "shut off").then_some(()))
    })
    .unwrap();
    let ended = case.change(PUT, BOOT);
    assert!(matches!(ended.outcome, Outcome::Done { changed: Some(true), .. }), "{ended:?}");
    assert_eq!(offline::content(&case.disk, "/etc/agent/key").unwrap(), "approved\n");
    assert!(case.is_clean(&libvirt));
}
