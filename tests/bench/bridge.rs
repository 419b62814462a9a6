//! A bridge with two taps and an uplink, in a network namespace of its own, as it is and guarded.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use detector::bpf::{Hook, KernelEnforcer, Options, PinPaths};
use detector::enforcer::Enforcer;
use detector::net::frames;
use detector_common::port::flags;
use detector_common::{addr::Mac, settings::Mode, stamp::Stamp};
use detector_core::model::Shield;
use detector_core::reconcile::{Action, AddressSet, GrantEntry, Identity, SlotEntry, compile};
use detector_tests::frames::{self as frame, Station};
use detector_tests::link;
use detector_tests::netns::NetNs;
use detector_tests::tap::{Header, Tap};
use nix::net::if_::if_nametoindex;

use detector_tests::bpf;

/// Who is granted to the first tap, and who to the second.
pub(crate) const A: Station = Station::number(1);
pub(crate) const B: Station = Station::number(2);

/// Somebody behind the uplink.
pub(crate) const PEER: Station = Station::number(3);

const BRIDGE: &str = "br0";
const UPLINK: &str = "up0";
/// The other end of the uplink.
const WIRE: &str = "wire0";
const NAMES: [&str; 2] = ["vm1", "vm2"];

/// The bridge and its ports.
pub(crate) struct Bridge {
    pub(crate) network: NetNs,
    pub(crate) taps: [Tap; 2],
    outside: NetNs,
    wire: u32,
    /// Drops what comes out of the uplink, so that it costs little.
    _sink: OwnedFd,
}

/// What [`Bridge::guard`] has put in force.
pub(crate) struct Guarded {
    pins: PinPaths,
    /// Of the ports.
    pub(crate) ifindexes: Vec<u32>,
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
        let outside = NetNs::new()?;
        link::cable((&network, UPLINK), (&outside, WIRE))?;
        link::enslave(&network, UPLINK, BRIDGE)?;
        let drop = bpf::load(&bpf::returning(bpf::DROP))?;
        let (wire, sink) = outside.run(|| {
            let wire = if_nametoindex(WIRE)?;
            Ok((wire, bpf::attach(drop.as_fd(), wire, Hook::Ingress)?))
        })?;
        for (name, station) in NAMES.into_iter().chain([UPLINK]).zip([A, B, PEER]) {
            let [a, b, c, d, e, f] = station.mac;
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            network.bridge(&format!("fdb replace {mac} dev {name} master static"))?;
        }
        Ok(Self { network, taps, outside, wire, _sink: sink })
    }

    /// How many frames have come out of the uplink.
    pub(crate) fn sent_out(&self) -> Result<u64> {
        let frames = self.outside.run(|| Ok(frames(self.wire)?))?;
        Ok(frames.context("the uplink is gone")?.from)
    }

    /// The interface of the uplink.
    pub(crate) fn uplink(&self) -> Result<u32> {
        self.network.run(|| Ok(if_nametoindex(UPLINK)?))
    }

    /// The interface of a tap.
    pub(crate) fn ifindex(&self, tap: &Tap) -> Result<u32> {
        self.network.run(|| Ok(if_nametoindex(tap.name())?))
    }

    /// A guard on both taps, each with one identity, and a gate on bridge and uplink.
    pub(crate) fn guard(&self) -> Result<Guarded> {
        self.guard_beside(&[])
    }

    /// The same, where the second tap is granted other identities as well.
    pub(crate) fn guard_beside(&self, others: &[GrantEntry]) -> Result<Guarded> {
        self.guarded(|enforcer| {
            let [first, second] = NAMES;
            Ok(vec![
                grant(enforcer, first, identity(A), &[])?,
                grant(enforcer, second, identity(B), others)?,
            ])
        })
    }

    /// A guard on so many taps more, each with the same identity.
    pub(crate) fn guard_many(&self, count: usize) -> Result<Guarded> {
        for number in 0..count {
            let name = format!("many{number}");
            self.network.ip(&format!("tuntap add {name} mode tap"))?;
        }
        self.guarded(|enforcer| {
            let names = (0..count).map(|number| format!("many{number}"));
            names.map(|name| grant(enforcer, &name, identity(A), &[])).collect()
        })
    }

    /// A guard on the first tap that cuts it off, and a shield.
    pub(crate) fn shield(&self) -> Result<Guarded> {
        self.guarded(|enforcer| {
            let slot = SlotEntry { flags: flags::ISOLATED, ..SlotEntry::default() };
            let ifindex = grant(enforcer, NAMES[0], slot, &[])?;
            let instance = instance(enforcer, ifindex)?;
            enforcer.execute(&Action::PutShield { ifindex, instance })?;
            let observed = enforcer.observe()?;
            let shield = observed.interfaces.get(&ifindex).map(|port| port.shield);
            ensure!(shield == Some(Shield::On), "a tap has taken no shield");
            Ok(vec![ifindex])
        })
    }

    /// Puts a gate on bridge and uplink, and whatever else.
    fn guarded(
        &self,
        grant: impl FnOnce(&mut KernelEnforcer) -> Result<Vec<u32>> + Send,
    ) -> Result<Guarded> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = PathBuf::from(format!("/sys/fs/bpf/bench-{number}"));
        let pins = PinPaths::new(&root);
        let ifindexes = self.network.run(|| {
            let options = Options { pins: root, stamp: Stamp::default(), method: None };
            let mut enforcer = KernelEnforcer::open(&options)?;
            enforcer.execute(&Action::SetMode(Mode::Enforce.into()))?;
            let name = BRIDGE.to_owned();
            enforcer.execute(&Action::AttachBridge { ifindex: if_nametoindex(BRIDGE)?, name })?;
            let name = UPLINK.to_owned();
            enforcer.execute(&Action::AttachUplink { ifindex: if_nametoindex(UPLINK)?, name })?;
            grant(&mut enforcer)
        })?;
        Ok(Guarded { pins, ifindexes })
    }
}

/// A guard with one identity on a port, with the enforcer that has put it there, and its pins.
pub(crate) fn enforcer_of(bridge: &Bridge) -> Result<(KernelEnforcer, PinPaths, u32)> {
    let root = PathBuf::from("/sys/fs/bpf/bench-loading");
    let pins = PinPaths::new(&root);
    bridge.network.run(|| {
        let options = Options { pins: root, stamp: Stamp::default(), method: None };
        let mut enforcer = KernelEnforcer::open(&options)?;
        let ifindex = grant(&mut enforcer, NAMES[0], identity(A), &[])?;
        Ok((enforcer, pins, ifindex))
    })
}

/// Guards a port and grants it an identity, and others.
fn grant(
    enforcer: &mut KernelEnforcer,
    name: &str,
    mut slot: SlotEntry,
    others: &[GrantEntry],
) -> Result<u32> {
    let ifindex = if_nametoindex(name)?;
    enforcer.execute(&Action::AttachGuard { ifindex, name: name.to_owned() })?;
    let instance = instance(enforcer, ifindex)?;
    if !others.is_empty() {
        slot.flags |= flags::MORE_GRANTS;
        let grants = others.to_vec();
        enforcer.execute(&Action::PutGrants { ifindex, instance, grants })?;
    }
    enforcer.execute(&Action::WriteSlot { ifindex, instance, slot })?;
    Ok(ifindex)
}

/// Which life of the interface is guarded.
fn instance(enforcer: &mut KernelEnforcer, ifindex: u32) -> Result<u32> {
    let observed = enforcer.observe()?;
    let port = observed.interfaces.get(&ifindex).context("no slot for the port")?;
    Ok(port.slot.instance)
}

impl Guarded {
    /// The program on the first port.
    pub(crate) fn program(&self, hook: Hook) -> Result<OwnedFd> {
        bpf::program_of(&self.pins.link(self.ifindexes[0], hook))
    }
}

/// A's frame to B.
pub(crate) fn vetted_frame() -> Vec<u8> {
    frame_of(A)
}

/// A's frame to the peer outside.
pub(crate) fn outbound_frame() -> Vec<u8> {
    frame_between(A, PEER)
}

/// The same under a MAC that nobody has.
pub(crate) fn rogue_frame() -> Vec<u8> {
    frame_of(Station { mac: Station::number(99).mac, ..A })
}

/// Somebody's frame to B, 64 bytes long.
pub(crate) fn frame_of(from: Station) -> Vec<u8> {
    frame_between(from, B)
}

fn frame_between(from: Station, to: Station) -> Vec<u8> {
    let mut frame = frame::udp(from, (to.mac, to.ip), (4000, 4001), b"detector");
    frame.resize(64, 0);
    frame
}

fn identity(station: Station) -> SlotEntry {
    let identity = Identity {
        mac: Mac(station.mac),
        vlan: 0,
        v4: AddressSet::Only(vec![station.ip.into()]),
        v6: AddressSet::Only(Vec::new()),
        learns: None,
        dhcp_server: false,
        router: false,
        vrrp: false,
    };
    compile(&[identity]).0
}
