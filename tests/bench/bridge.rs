//! A bridge between two taps, in a network namespace of its own, as it is and guarded.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use detector::bpf::{Hook, KernelEnforcer, Options, PinPaths};
use detector::enforcer::Enforcer;
use detector_common::port::flags;
use detector_common::{settings::Mode, stamp::Stamp};
use detector_core::reconcile::{Action, GrantEntry, SlotEntry};
use detector_tests::frames::{self, Station};
use detector_tests::link;
use detector_tests::netns::NetNs;
use detector_tests::tap::{Header, Tap};
use nix::net::if_::if_nametoindex;

use detector_tests::bpf;

/// Who is granted to the first tap, and who to the second.
pub(crate) const A: Station = Station::number(1);
pub(crate) const B: Station = Station::number(2);

const BRIDGE: &str = "br0";
const NAMES: [&str; 2] = ["vm1", "vm2"];

/// The bridge and its two ports.
pub(crate) struct Bridge {
    pub(crate) network: NetNs,
    pub(crate) taps: [Tap; 2],
}

/// What [`Bridge::guard`] has put in force.
pub(crate) struct Guarded {
    pins: PinPaths,
    /// Of the taps.
    pub(crate) ifindexes: [u32; 2],
}

impl Bridge {
    pub(crate) fn new() -> Result<Self> {
        let network = NetNs::new()?;
        // Nothing but the benchmark's frames shall be on the bridge.
        network.run(|| Ok(fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?))?;
        link::bridge(&network, BRIDGE)?;
        let [first, second] = NAMES;
        let taps =
            [Tap::open(&network, first, Header::None)?, Tap::open(&network, second, Header::None)?];
        for name in NAMES {
            link::enslave(&network, name, BRIDGE)?;
            network.ip(&format!("link set {name} up"))?;
        }
        for (name, station) in NAMES.into_iter().zip([A, B]) {
            let [a, b, c, d, e, f] = station.mac;
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            network.bridge(&format!("fdb replace {mac} dev {name} master static"))?;
        }
        Ok(Self { network, taps })
    }

    /// The interface of a tap.
    pub(crate) fn ifindex(&self, tap: &Tap) -> Result<u32> {
        self.network.run(|| Ok(if_nametoindex(tap.name())?))
    }

    /// A guard on both taps, each with one identity, and a gate on the bridge.
    pub(crate) fn guard(&self) -> Result<Guarded> {
        self.guard_beside(&[])
    }

    /// The same, where the second tap is granted other identities as well.
    pub(crate) fn guard_beside(&self, others: &[GrantEntry]) -> Result<Guarded> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = PathBuf::from(format!("/sys/fs/bpf/bench-{number}"));
        let pins = PinPaths::new(&root);
        let ifindexes = self.network.run(|| {
            let options = Options { pins: root, stamp: Stamp::default(), method: None };
            let mut enforcer = KernelEnforcer::open(&options)?;
            enforcer.execute(&Action::SetMode(Mode::Enforce))?;
            let name = BRIDGE.to_owned();
            enforcer.execute(&Action::AttachBridge { ifindex: if_nametoindex(BRIDGE)?, name })?;
            let mut ifindexes = [0; 2];
            for (tap, station) in [A, B].into_iter().enumerate() {
                let name = NAMES[tap];
                let ifindex = if_nametoindex(name)?;
                ifindexes[tap] = ifindex;
                enforcer.execute(&Action::AttachGuard { ifindex, name: name.to_owned() })?;
                let observed = enforcer.observe()?;
                let port = observed.interfaces.get(&ifindex).context("no slot for the tap")?;
                let instance = port.slot.instance;
                let mut slot = identity(station);
                if tap == 1 && !others.is_empty() {
                    slot.flags |= flags::MORE_GRANTS;
                    let grants = others.to_vec();
                    enforcer.execute(&Action::PutGrants { ifindex, instance, grants })?;
                }
                enforcer.execute(&Action::WriteSlot { ifindex, instance, slot })?;
            }
            Ok(ifindexes)
        })?;
        Ok(Guarded { pins, ifindexes })
    }
}

impl Guarded {
    /// The program on the first tap.
    pub(crate) fn program(&self, hook: Hook) -> Result<OwnedFd> {
        bpf::program_of(&self.pins.link(self.ifindexes[0], hook))
    }
}

/// A's frame to B.
pub(crate) fn vetted_frame() -> Vec<u8> {
    frame_of(A)
}

/// The same under a MAC that nobody has.
pub(crate) fn rogue_frame() -> Vec<u8> {
    frame_of(Station { mac: Station::number(99).mac, ..A })
}

/// Somebody's frame to B, 64 bytes long.
pub(crate) fn frame_of(from: Station) -> Vec<u8> {
    let mut frame = frames::udp(from, (B.mac, B.ip), (4000, 4001), b"detector");
    frame.resize(64, 0);
    frame
}

fn identity(station: Station) -> SlotEntry {
    SlotEntry {
        flags: flags::GRANTED | flags::V4,
        mac: station.mac,
        v4: station.ip.octets(),
        v4_mask: [255; 4],
        ..SlotEntry::default()
    }
}
