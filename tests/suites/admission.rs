//! libvirt starts VMs and plugs NICs into them: its hook, the daemon and real guests.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::time::Duration;

use detector_guest::Mac;
use detector_tests::capture::Capture;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::flow::Flow;
use detector_tests::guest::{Guest, Image, hex};
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::netns::NetNs;
use detector_tests::{link, wait};

/// A guest under emulation needs seconds to boot, more of them on a busy machine.
const BOOT: Duration = Duration::from_secs(90);

/// Longer than a start takes that waits for nobody; shorter than it takes to look like the end.
const HANG: Duration = Duration::from_secs(3);

/// A host with a bridge and an image that is approved, and one that is not.
struct Lab {
    outside: Capture,
    approved: Image,
    rogue: Image,
    host: Host,
    _far: NetNs,
}

impl Lab {
    fn new() -> Self {
        let host = Host::new().unwrap();
        let far = NetNs::new().unwrap();
        link::bridge(host.network(), "br0").unwrap();
        link::cable((host.network(), "up0"), (&far, "far0")).unwrap();
        link::enslave(host.network(), "up0", "br0").unwrap();
        let image = |name| Image::make(host.directory(), name, name).unwrap();
        Self {
            outside: Capture::start(&far, "far0").unwrap(),
            approved: image("reviewed"),
            rogue: image("unheard-of"),
            host,
            _far: far,
        }
    }

    fn run(&self, admission: &str) -> (Daemon<'_>, Libvirt<'_>) {
        let settings = Settings {
            evidence: "digest",
            libvirt: true,
            templates: vec![("base.toml".to_owned(), self.approved.manifest("base").unwrap())],
            more: format!("[admission]\n{admission}"),
            ..Settings::default()
        };
        let mut daemon = Daemon::configure(&self.host, &settings).unwrap();
        let libvirt = Libvirt::start(&self.host, Some(&daemon.hook())).unwrap();
        daemon.run().unwrap();
        (daemon, libvirt)
    }

    fn flow(&self, mac: Mac) -> Flow {
        Flow::of(&self.outside.frames().unwrap(), mac)
    }

    fn has_tap(&self) -> bool {
        self.host.network().ip("-oneline link show").unwrap().contains("vnet")
    }
}

/// Waits until a port is this, of a NIC that may not have been granted anything.
fn await_port(daemon: &Daemon<'_>, libvirt: &Libvirt<'_>, guest: &Guest, mac: Mac, status: &str) {
    let list = libvirt.virsh(&["domiflist", &guest.name]).unwrap();
    let line = list.lines().find(|line| line.contains(&hex(mac))).unwrap();
    let tap = line.split_whitespace().next().unwrap();
    daemon.await_port(tap, status, BOOT).unwrap();
}

#[test]
fn an_approved_vm_that_is_started_while_the_daemon_is_away_loses_nothing() {
    let lab = Lab::new();
    let (mut daemon, libvirt) = lab.run("timeout = \"120s\"\n");
    for (number, killed) in [(11, true), (12, false)] {
        let guest = Guest::new(&format!("app{number}"), number);
        libvirt.define(&guest, &lab.approved, "br0").unwrap();
        if killed { daemon.kill() } else { daemon.terminate() }.unwrap();
        std::thread::scope(|scope| {
            let start = scope.spawn(|| libvirt.start_domain(&guest));
            // The hook is asked once the tap is there.
            wait::until("the tap", BOOT, || Ok(lab.has_tap().then_some(()))).unwrap();
            wait::pause(HANG);
            assert!(!start.is_finished(), "it waits for the daemon");
            daemon.run().unwrap();
            start.join().unwrap().unwrap();
        });
        await_port(&daemon, &libvirt, &guest, guest.mac, "granted");
        let first = || Ok(lab.flow(guest.mac).first_phase());
        let phase = wait::until("the first phase", BOOT, first).unwrap();
        assert!(phase.is_whole(), "{phase:?}");
        libvirt.destroy(&guest).unwrap();
        wait::until("the tap to go", BOOT, || Ok((!lab.has_tap()).then_some(()))).unwrap();
    }
}

/// What `virsh start` prints is what a person reads who knows nothing of this program.
#[test]
fn virsh_says_which_rule_refuses_a_start() {
    let lab = Lab::new();
    let (_daemon, libvirt) = lab.run("denied = \"refuse\"\n");
    let (guest, rogue) = (Guest::new("app", 11), Guest::new("rogue", 12));
    libvirt.define(&guest, &lab.approved, "br0").unwrap();
    libvirt.define(&rogue, &lab.rogue, "br0").unwrap();
    let said = format!("{:#}", libvirt.start_domain(&rogue).unwrap_err());
    for words in [
        "the VM rogue may not start",
        "[template-registered] A VM descends from a registered template.",
        "detector explain rogue",
    ] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    assert_eq!(libvirt.virsh(&["domstate", "rogue"]).unwrap().trim(), "shut off");
    libvirt.start_domain(&guest).unwrap();
}

/// There is no hook for a NIC that is plugged into a VM that runs: what the VM is decides on it.
#[test]
fn a_nic_that_is_plugged_in_is_judged_with_its_vm() {
    let lab = Lab::new();
    let (daemon, libvirt) = lab.run("");
    let (guest, rogue) = (Guest::new("app", 11), Guest::new("rogue", 12));
    let second: [Mac; 2] = [[0x52, 0x54, 0, 1, 0, 11], [0x52, 0x54, 0, 1, 0, 12]];
    let plugged = [(&guest, &lab.approved, "granted"), (&rogue, &lab.rogue, "isolated")];
    for ((guest, image, status), mac) in plugged.into_iter().zip(second) {
        libvirt.define(guest, image, "br0").unwrap();
        libvirt.start_domain(guest).unwrap();
        await_port(&daemon, &libvirt, guest, guest.mac, status);
        let nic = ["bridge", "br0", "--mac", &hex(mac), "--model", "virtio", "--live"];
        libvirt.virsh(&[&["attach-interface", &guest.name], &nic[..]].concat()).unwrap();
        await_port(&daemon, &libvirt, guest, mac, status);
    }
    // QEMU sends from all NICs of a VM at once; the rogue one first, so that its frames come first.
    for guest in [&rogue, &guest] {
        libvirt.virsh(&["qemu-monitor-command", &guest.name, "--hmp", "announce_self"]).unwrap();
    }
    for mac in [guest.mac, second[0]] {
        let heard = || Ok((lab.flow(mac).announcements() > 0).then_some(()));
        wait::until("the approved one's announcement", BOOT, heard).unwrap();
    }
    for mac in [rogue.mac, second[1]] {
        assert_eq!(lab.flow(mac).len(), 0, "{}", hex(mac));
    }
}
