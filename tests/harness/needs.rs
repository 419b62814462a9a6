//! What a kernel may lack, and what a test says that cannot test anything without it.

use std::io::Write;
use std::os::fd::AsFd;

use crate::bpf::{self, SkBuff};
use crate::netns::NetNs;
use crate::open_vswitch;

/// Something that a test needs of the kernel or the machine, and not every one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// 802.1Q VLAN interfaces.
    Vlan,
    /// Bridges that mind VLANs.
    VlanFiltering,
    Bonding,
    /// Its datapath in the kernel, and its daemon.
    OpenVSwitch,
    OpenVSwitchDaemon,
    VhostNet,
    Macvtap,
    /// The queueing discipline by which libvirt limits what a guest sends.
    IngressQdisc,
    /// The kernel's hypervisor.
    Kvm,
    /// Snapshots of block devices (device-mapper), and LVM to make them.
    Snapshots,
    /// Test runs of programs that are told where a frame came in.
    SourceOfTestRun,
}

impl Need {
    fn lacking(self) -> Option<String> {
        let (what, tool, words) = match self {
            Self::Vlan => {
                ("no VLAN interfaces", "ip", "link add link base name probe type vlan id 7")
            }
            Self::VlanFiltering => {
                ("no bridges that mind VLANs", "ip", "link add probe type bridge vlan_filtering 1")
            }
            Self::Bonding => ("no bonds", "ip", "link add probe type bond"),
            Self::OpenVSwitch => return lacking_open_vswitch(),
            Self::OpenVSwitchDaemon => return lacking_open_vswitch_daemon(),
            Self::VhostNet => return lacking_file("/dev/vhost-net"),
            Self::Macvtap => ("no macvtap", "ip", "link add link base name probe type macvtap"),
            Self::IngressQdisc => ("no ingress qdisc", "tc", "qdisc add dev base ingress"),
            Self::Kvm => return lacking_file("/dev/kvm"),
            Self::Snapshots => return lacking_snapshots(),
            Self::SourceOfTestRun => return lacking_source_of_test_run(),
        };
        let network = NetNs::new().ok()?;
        network.ip("link add base type bridge").ok()?;
        let refused = network.tool(tool, words).err()?;
        let refused = refused.to_string();
        let why = refused.lines().last().unwrap_or_default();
        let why = why.rsplit(": ").next().unwrap_or_default().trim_end_matches('.');
        Some(format!("this kernel has {what} ({why})"))
    }
}

/// Whether something is lacking that the test needs; says so, since a test that ends then has tested
/// nothing.
pub fn lacks(needs: &[Need]) -> bool {
    let lacking: Vec<_> = needs.iter().filter_map(|need| need.lacking()).collect();
    if lacking.is_empty() {
        return false;
    }
    say("skipped", &lacking.join("; "));
    true
}

/// Tells whoever reads the output something about this kernel.
pub fn found(what: &str) {
    say("found", what);
}

/// Past libtest, which keeps to itself what a test prints that passes.
fn say(word: &str, text: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    let line = format!("\n{word} {test}: {}\n", text.replace('\n', " "));
    // Nobody can be told that nobody can be told.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn lacking_source_of_test_run() -> Option<String> {
    const LO: u32 = 1;
    let program = bpf::load(&bpf::returns(0)).ok()?;
    let refused = bpf::run(program.as_fd(), &SkBuff::on(LO).came_in_by(LO), &[0; 60], 1).err()?;
    Some(format!("a test run cannot be told where a frame came in ({:#})", refused.root_cause()))
}

fn lacking_open_vswitch_daemon() -> Option<String> {
    let lacking = "there is no Open vSwitch (package openvswitch-switch)";
    open_vswitch::daemon().is_none().then(|| lacking.to_owned())
}

fn lacking_open_vswitch() -> Option<String> {
    if let Some(lacking) = lacking_open_vswitch_daemon() {
        return Some(lacking);
    }
    let datapath = std::path::Path::new("/sys/module/openvswitch");
    (!datapath.exists()).then(|| "this kernel has no datapath of Open vSwitch".to_owned())
}

fn lacking_snapshots() -> Option<String> {
    let targets = std::process::Command::new("dmsetup").arg("targets").output();
    match targets {
        Err(error) => Some(format!("dmsetup cannot be run (package lvm2): {error}")),
        Ok(targets) if String::from_utf8_lossy(&targets.stdout).contains("snapshot") => None,
        Ok(_) => Some("this kernel has no snapshots of block devices".to_owned()),
    }
}

fn lacking_file(path: &str) -> Option<String> {
    (!std::path::Path::new(path).exists()).then(|| format!("there is no {path}"))
}
