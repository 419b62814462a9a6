//! A small network for the quick suites: a bridge, an uplink that somebody listens at, and taps that
//! the static inventory knows or does not know. The tests are the guests.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use detector_guest::Mac;

use crate::capture::{Capture, Frame};
use crate::daemon::{Daemon, Settings};
use crate::family::Family;
use crate::flow::await_whole;
use crate::frames::Station;
use crate::guest::hex;
use crate::host::Host;
use crate::netns::NetNs;
use crate::order::stay_in_order;
use crate::packet::PacketSocket;
use crate::tap::{Header, Tap};
use crate::{link, wait};

/// How long anything that does happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for a frame to arrive anywhere, were it on its way.
pub const SILENCE: Duration = Duration::from_millis(200);
/// The host's address on the bridge.
pub const HOST_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

pub struct Scene {
    outside: Capture,
    far: NetNs,
    /// Last, so that what listens in it has ended before.
    host: Host,
}

impl Scene {
    pub fn new() -> Result<Self> {
        let host = Host::new()?;
        let network = host.network();
        link::bridge(network, "br0")?;
        network.ip(&format!("address add {HOST_IP}/24 dev br0"))?;
        let far = NetNs::new()?;
        link::cable((network, "up0"), (&far, "far0"))?;
        link::enslave(network, "up0", "br0")?;
        let outside = Capture::start(&far, "far0")?;
        Ok(Self { outside, far, host })
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The daemon, with the VMs of these entries in its static inventory.
    pub fn daemon(&self, mode: &'static str, vms: &[String]) -> Result<Daemon<'_>> {
        let more = "unknown_port_grace = \"200ms\"\n".to_owned();
        let settings = Settings { mode, inventory: vms.concat(), more, ..Settings::default() };
        Daemon::start(&self.host, &settings)
    }

    /// The same where further interfaces lead out of the host.
    pub fn daemon_with_uplinks(
        &self,
        vms: &[String],
        uplinks: &[&'static str],
    ) -> Result<Daemon<'_>> {
        let mut settings = Settings { inventory: vms.concat(), ..Settings::default() };
        settings.uplinks.extend(uplinks);
        Daemon::start(&self.host, &settings)
    }

    /// A tap on the bridge, up.
    pub fn plug(&self, name: &str) -> Result<Tap> {
        let tap = Tap::open(self.host.network(), name, Header::None)?;
        // A frame of the kernel's own would be mistaken for the guest's.
        self.host.network().ip(&format!("link set {name} addrgenmode none"))?;
        self.host.network().ip(&format!("link set {name} up"))?;
        link::enslave(self.host.network(), name, "br0")?;
        Ok(tap)
    }

    /// A tap on the bridge whose identity is granted.
    pub fn plug_granted(&self, daemon: &Daemon<'_>, name: &str) -> Result<Tap> {
        let tap = self.plug(name)?;
        daemon.await_port(name, "granted", PATIENCE)?;
        tap.drain()?;
        Ok(tap)
    }

    /// Everything that has arrived outside.
    pub fn outside(&self) -> Result<Vec<Frame>> {
        self.outside.frames()
    }

    /// Waits for exactly this frame outside.
    pub fn await_outside(&self, what: &str, frame: &[u8]) -> Result<()> {
        self.outside.await_frame(what, PATIENCE, |f| same(&f.bytes, frame)).map(drop)
    }

    /// Waits for exactly this frame outside; returns what arrived before it, but for the first
    /// `seen`.
    pub fn outside_until(&self, what: &str, seen: usize, last: &[u8]) -> Result<Vec<Frame>> {
        wait::until(&format!("{what} outside"), PATIENCE, || {
            let mut frames = self.outside()?.split_off(seen);
            let end = frames.iter().position(|frame| same(&frame.bytes, last));
            Ok(end.map(|end| {
                frames.truncate(end);
                frames
            }))
        })
    }

    /// How many copies of the frame have arrived outside.
    pub fn copies_outside(&self, frame: &[u8]) -> Result<usize> {
        Ok(self.outside()?.iter().filter(|f| same(&f.bytes, frame)).count())
    }

    /// Waits until every frame of the stream with a number in `from..=to` has arrived outside.
    pub fn await_stream(&self, mac: Mac, from: u64, to: u64) -> Result<()> {
        await_whole(&self.outside, mac, from, to)
    }

    /// The network namespace beyond the uplink.
    pub fn far(&self) -> &NetNs {
        &self.far
    }

    /// Somebody beyond the uplink, who can send.
    pub fn beyond(&self) -> Result<PacketSocket> {
        PacketSocket::open(&self.far, "far0")
    }

    /// A socket of the host's own that hears the broadcasts of guests.
    pub fn ears(&self, port: u16) -> Result<UdpSocket> {
        self.host.network().run(|| {
            let socket = UdpSocket::bind(("0.0.0.0", port))?;
            socket.set_nonblocking(true)?;
            socket.set_broadcast(true)?;
            Ok(socket)
        })
    }

    /// Lets frames of that size through to the outside.
    pub fn widen(&self, mtu: u32) -> Result<()> {
        self.far.ip(&format!("link set far0 mtu {mtu}"))?;
        for name in ["up0", "br0"] {
            self.host.network().ip(&format!("link set {name} mtu {mtu}"))?;
        }
        Ok(())
    }

    /// The MAC of an interface of the host.
    pub fn mac(&self, interface: &str) -> Result<Mac> {
        interface_mac(self.host.network(), interface)
    }

    /// The port that the bridge believes the MAC behind.
    pub fn place_of(&self, mac: Mac) -> Result<Option<String>> {
        let table = self.host.network().bridge("fdb show br br0")?;
        let mac = hex(mac);
        let entry = table.lines().find(|line| line.starts_with(&mac));
        Ok(entry.and_then(|line| line.split(' ').nth(2)).map(str::to_owned))
    }
}

/// An entry of the static inventory: a VM with one NIC at a port, bound to its one address of either
/// family.
pub fn vm(name: &str, port: &str, station: Station) -> String {
    format!(
        "[[vm]]\nname = \"{name}\"\ntemplate = \"lab\"\n[[vm.nic]]\nmac = \"{}\"\n\
         port = \"{port}\"\naddresses = [\"{}/32\", \"{}/128\"]\n",
        hex(station.mac),
        station.ip,
        station.ip6()
    )
}

/// A broadcast with a number.
pub fn beat(station: Station, seq: u64) -> Vec<u8> {
    Family::V4.beat(station, seq)
}

/// Waits for a datagram; none within the time is `false`.
pub fn hears(socket: &UdpSocket, patience: Duration) -> bool {
    let mut buffer = [0; 64];
    wait::until("a datagram", patience, || Ok(socket.recv_from(&mut buffer).ok())).is_ok()
}

/// Whether what arrived is the frame, which may have been padded on its way.
pub fn same(arrived: &[u8], frame: &[u8]) -> bool {
    arrived.len() >= frame.len() && arrived[..frame.len()] == *frame
}

/// The MAC of an interface of the namespace.
pub fn interface_mac(namespace: &NetNs, name: &str) -> Result<Mac> {
    let text = namespace.ip(&format!("-oneline link show dev {name}"))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
    let mac = words.nth(1).with_context(|| format!("{name} has no MAC"))?;
    let bytes: Vec<_> = mac.split(':').filter_map(|b| u8::from_str_radix(b, 16).ok()).collect();
    bytes.try_into().ok().with_context(|| format!("{mac} is no MAC"))
}

/// Between two frames of a stream.
const PACE: Duration = Duration::from_millis(1);

/// Streams from the taps, every other frame over IPv6, while something happens, which is handed what waits for so many more
/// frames of each and says how many there have been. Returns that number at the end.
pub fn stream(taps: &[(&Tap, Station)], during: impl FnOnce(&dyn Fn(u64) -> u64)) -> u64 {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_in_order();
            let mut seq = 0;
            while !stop.load(Ordering::Relaxed) {
                let family = Family::BOTH[(seq % 2) as usize];
                for (tap, station) in taps {
                    tap.send(&family.beat(*station, seq)).expect("a tap takes every frame");
                }
                seq += 1;
                sent.store(seq, Ordering::Relaxed);
                wait::pause(PACE);
            }
        });
        let more = |count: u64| {
            let goal = sent.load(Ordering::Relaxed) + count;
            let reached = || sent.load(Ordering::Relaxed) >= goal;
            wait::until("the stream", PATIENCE, || Ok(reached().then_some(())))
                .expect("the stream goes on");
            sent.load(Ordering::Relaxed)
        };
        let stop_at_the_end = StopOnDrop(&stop);
        during(&more);
        drop(stop_at_the_end);
    });
    wait::pause(SILENCE);
    sent.into_inner()
}

/// The stream ends also when the trouble panics, or the scope would wait for ever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
