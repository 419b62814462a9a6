//! What somebody installs: packages, on a system that they have never been on, with its service manager.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "packages/deb.rs"]
mod deb;
#[path = "packages/monitor.rs"]
mod monitor;
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
const STATE: &str = "/var/lib/detector";
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

fn owner(system: &Debian, path: &str) -> String {
    system.check(&format!("stat --format %U:%G {path}")).unwrap().trim().to_owned()
}

/// What decides is a user of its own with one capability, and all that it keeps is that user's, whatever the service
/// manager is asked for.
fn assert_separate(system: &Debian) {
    /// `CAP_DAC_READ_SEARCH`, by its number (capabilities(7)).
    const TO_READ: u64 = 1 << 2;
    let status = system.check(&format!("cat /proc/{}/status", main_pid(system).trim())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{status}")).trim().to_owned()
    };
    let uid = system.check("id --user detector").unwrap();
    let uids: Vec<_> = field("Uid").split_whitespace().map(str::to_owned).collect();
    assert_eq!(uids, [uid.trim(); 4], "{status}");
    for (set, held) in [("CapPrm", TO_READ), ("CapEff", TO_READ), ("CapInh", 0), ("CapAmb", 0)] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(held), "{set} {status}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    assert!(system.check("id --name --groups detector").unwrap().contains("libvirt"));

    let add = "detector quarantine add mac 52:54:00:00:00:77 --reason";
    for (reason, command) in [("before", "true"), ("after a reload", "systemctl reload detector")] {
        system.check(command).unwrap();
        let strangers = format!("find {STATE} /run/detector /var/log/detector -not -user detector");
        assert_eq!(system.check(&strangers).unwrap(), "", "{reason}");
        system.check(&format!("{add} '{reason}'")).unwrap();
        wait::until("what is kept of it", PATIENCE, || {
            let kept = system.check(&format!("cat {STATE}/quarantines.json"))?;
            Ok(kept.contains(reason).then_some(()))
        })
        .unwrap();
        let audit = system.check("detector audit list --output json").unwrap();
        assert!(audit.contains(reason), "{audit}");
        system.check("detector quarantine release mac 52:54:00:00:00:77").unwrap();
    }
    system.check("detector audit verify").unwrap();
    let health = system.output("detector health --output json").unwrap();
    let health = String::from_utf8_lossy(&health.stdout).into_owned();
    assert!(!health.contains("audit-impaired"), "{health}");
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
