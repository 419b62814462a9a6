//! What somebody installs: packages, on a system that they have never been on, with its service manager.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "packages/deb.rs"]
mod deb;
#[path = "packages/rpm.rs"]
mod rpm;
#[path = "packages/tarball.rs"]
mod tarball;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::time::Duration;

use detector_tests::debian::Debian;
use detector_tests::{bpf, wait};

const PINS: &str = "/sys/fs/bpf/detector";
const HOOK: &str = "/etc/libvirt/hooks/qemu.d/detector";
const PATIENCE: Duration = Duration::from_secs(30);

/// A bridge with one port, and the frames of nobody.
fn with_a_port() -> Debian {
    let system = Debian::boot().unwrap();
    system
        .check(
            "ip link add br0 type bridge && ip link set br0 up && \
             ip link add tap-a type veth peer name guest && \
             ip link set tap-a master br0 up && ip link set guest up",
        )
        .unwrap();
    system
}

fn await_guard(system: &Debian) {
    wait::until("a guard on the port", PATIENCE, || {
        let ports = system.output("detector port list --output json")?;
        Ok(String::from_utf8_lossy(&ports.stdout).contains("tap-a").then_some(()))
    })
    .unwrap();
    assert!(!links(system).is_empty());
}

/// What is pinned, by the kernel's numbers of the links: one that is taken off and put back has another.
fn links(system: &Debian) -> BTreeMap<String, String> {
    let listed = system.check(&format!("find {PINS}/*/links -type f")).unwrap();
    let number = |pin: &str| {
        let link = bpf::open_pin(&system.inside(pin)).unwrap();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).unwrap();
        let number = info.lines().find_map(|line| line.strip_prefix("link_id:"));
        number.unwrap_or_else(|| panic!("{info}")).trim().to_owned()
    };
    listed.lines().map(|pin| (pin.to_owned(), number(pin))).collect()
}

fn main_pid(system: &Debian) -> String {
    system.check("systemctl show --property=MainPID --value detector").unwrap()
}

fn is_active(system: &Debian) -> bool {
    system.output("systemctl is-active detector").unwrap().status.success()
}

fn is_quarantined(system: &Debian) -> bool {
    system.check("detector quarantine list --output json").unwrap().contains("incident 42")
}

fn quarantine(system: &Debian) {
    system.check("detector quarantine add port tap-a --reason 'incident 42'").unwrap();
    assert!(is_quarantined(system));
}

/// A removal fails while another daemon keeps it from being taken off, and leaves all as it was.
fn assert_not_removed(system: &Debian, removal: &str) {
    let enabled = || system.output("systemctl is-enabled detector").unwrap().stdout;
    let before = (links(system), enabled());
    system
        .check("systemctl stop detector && systemd-run --quiet --unit=another detector run")
        .unwrap();
    wait::until("the other daemon", PATIENCE, || {
        Ok(system.output("detector health")?.status.code().filter(|code| *code != 1))
    })
    .unwrap();
    let removal = system.output(&format!("{removal} 2>&1")).unwrap();
    let said = String::from_utf8_lossy(&removal.stdout);
    assert!(!removal.status.success() && said.contains("so it is not removed"), "{said}");
    assert_eq!((links(system), enabled()), before);
    system.check("systemctl stop another").unwrap();
}

/// Nothing of ours is in force.
fn assert_off(system: &Debian) {
    assert!(!system.inside(PINS).exists(), "{}", system.check("find /sys/fs/bpf").unwrap());
    let filters = "for hook in ingress egress; do tc filter show dev tap-a $hook; done";
    assert_eq!(system.check(filters).unwrap(), "");
}
