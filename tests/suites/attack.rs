//! docs/attack-cases.md, row by row, through real taps: what a guest may not send reaches neither the
//! outside nor its neighbour, what it may send does, and the port's counters name the reason.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use detector::api::client::Client;
use detector::api::{Reply, Request};
use detector_common::samples::{BROADCAST, IP_A, IP_B, MAC_A, MAC_B, ethernet, ipv4, udp};
use detector_tests::capture::Frame;
use detector_tests::daemon::Daemon;
use detector_tests::order::stay_in_order;
use detector_tests::scene::{PATIENCE, Scene};
use detector_tests::tap::Tap;
use detector_tests::wait;

#[path = "attack/form.rs"]
mod form;
#[path = "attack/pass.rs"]
mod pass;
#[path = "attack/spoof.rs"]
mod spoof;

/// A MAC that is nobody's here.
const UNKNOWN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x99];
/// The VM on tap-r plays every role.
const MAC_R: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0c];
const IP_R: [u8; 4] = [192, 0, 2, 12];
/// The address that it shares with another as a virtual router.
const IP_SHARED: [u8; 4] = [192, 0, 2, 254];

const INVENTORY: &str = r#"
[[vm]]
name = "a"
template = "lab"
[[vm.nic]]
mac = "52:54:00:00:00:0a"
port = "tap-a"
addresses = ["192.0.2.7", "2001:db8::a"]
[[vm]]
name = "b"
template = "lab"
[[vm.nic]]
mac = "52:54:00:00:00:0b"
port = "tap-b"
addresses = ["192.0.2.8", "2001:db8::b"]
[[vm]]
name = "r"
template = "lab"
[[vm.nic]]
mac = "52:54:00:00:00:0c"
port = "tap-r"
addresses = ["192.0.2.12", "192.0.2.254"]
router = true
dhcp_server = true
vrrp = true
"#;

/// A frame, by which tap it comes, and what becomes of it.
struct Row {
    name: String,
    port: &'static str,
    frame: Vec<u8>,
    /// `granted`, or why it is dropped.
    reason: &'static str,
}

fn row(name: &str, port: &'static str, frame: Vec<u8>, reason: &'static str) -> Row {
    Row { name: name.to_owned(), port, frame, reason }
}

/// Two guests, one with roles, and everybody who listens.
struct Stage<'a> {
    scene: &'a Scene,
    client: Client,
    taps: BTreeMap<&'static str, Tap>,
    marks: u16,
}

impl<'a> Stage<'a> {
    fn new(scene: &'a Scene, daemon: &Daemon<'a>) -> Result<Self> {
        // Snooping would keep reports for groups from whoever is no router.
        scene.host().network().ip("link set br0 type bridge mcast_snooping 0")?;
        let mut taps = BTreeMap::new();
        for name in ["tap-a", "tap-b", "tap-r"] {
            taps.insert(name, scene.plug_granted(daemon, name)?);
        }
        stay_in_order();
        Ok(Self { scene, client: daemon.client()?, taps, marks: 0 })
    }

    /// Sends the frame; what went otherwise than expected.
    fn check(&mut self, row: &Row) -> Result<Option<String>> {
        let before = self.counted(row.port)?;
        let seen = self.scene.outside()?.len();
        self.taps[row.port].send(&row.frame)?;
        let after = self.counted(row.port)?;
        let moved: Vec<_> =
            after.iter().filter(|(reason, count)| before.get(*reason) != Some(count)).collect();
        let passes = row.reason == "granted";
        // What passes is counted by the interface only.
        let refused = before.get(row.reason).copied().unwrap_or(0) + 1;
        let expected = (!passes).then_some((row.reason, refused));
        let mut told = String::new();
        if moved.iter().map(|(r, n)| (r.as_str(), **n)).ne(expected) {
            told = format!("{}: counted as {moved:?}, not as {}", row.name, row.reason);
        }
        // Whatever of it goes anywhere is there before what is sent after it.
        let outside = self.until_mark(row.port, seen)?;
        let is_it = |bytes: &[u8]| is_part(&row.frame, bytes);
        let mut copies = outside.iter().filter(|frame| is_it(&frame.bytes)).count();
        for (_, tap) in self.taps.iter().filter(|(name, _)| **name != row.port) {
            copies += tap.drain()?.iter().filter(|bytes| is_it(bytes)).count();
        }
        if passes != (copies > 0) {
            told.push_str(&format!("\n{}: {copies} copies arrived", row.name));
        }
        Ok((!told.is_empty()).then_some(told))
    }

    fn counted(&mut self, port: &str) -> Result<BTreeMap<String, u64>> {
        match self.client.call(Request::PortShow { name: port.to_owned() })? {
            Reply::Port(view) => Ok(view.counters.unwrap_or_default().from),
            other => bail!("{port}: {other:?}"),
        }
    }

    /// Sends a broadcast that is allowed; all that has arrived outside before it.
    fn until_mark(&mut self, port: &str, seen: usize) -> Result<Vec<Frame>> {
        self.marks += 1;
        let (mac, ip) = match port {
            "tap-a" => (MAC_A, IP_A),
            "tap-b" => (MAC_B, IP_B),
            _ => (MAC_R, IP_R),
        };
        let datagram = udp(9, 9, &self.marks.to_be_bytes());
        let mark = ethernet(BROADCAST, mac, &[], 0x0800, &ipv4(ip, 17, &datagram));
        self.taps[port].send(&mark)?;
        wait::until("the mark", PATIENCE, || {
            let mut frames = self.scene.outside()?.split_off(seen);
            let end = frames.iter().position(|frame| frame.bytes.starts_with(&mark));
            Ok(end.map(|end| {
                frames.truncate(end);
                frames
            }))
        })
    }
}

/// Whether what arrived is the frame: its outermost tag may be gone, and padding added or taken off.
fn is_part(frame: &[u8], arrived: &[u8]) -> bool {
    const HEADERS: usize = 54;
    let end = frame.len().min(HEADERS);
    let rest = &frame[18.min(end)..end];
    arrived.get(6..12) == frame.get(6..12)
        && match rest {
            [] => arrived.starts_with(frame),
            _ => arrived.windows(rest.len()).any(|window| window == rest),
        }
}

fn play(rows: impl IntoIterator<Item = Row>) {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[INVENTORY.to_owned()]).unwrap();
    let mut stage = Stage::new(&scene, &daemon).unwrap();
    let mut failures = Vec::new();
    let mut played = 0;
    for row in rows {
        failures.extend(stage.check(&row).unwrap());
        played += 1;
    }
    println!("{played} rows");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // What was dropped has taught the bridge nothing.
    for (mac, place) in [(MAC_A, Some("tap-a")), (MAC_B, Some("tap-b")), (UNKNOWN, None)] {
        assert_eq!(scene.place_of(mac).unwrap().as_deref(), place);
    }
}

#[test]
fn a_stolen_identity_is_dropped_three_ways() {
    play(spoof::rows());
}

#[test]
fn what_cannot_be_read_or_takes_a_role_is_dropped() {
    play(form::rows());
}

#[test]
fn what_a_guest_needs_arrives() {
    play(pass::rows());
}

/// The host's own MACs are no guest's.
#[test]
fn the_hosts_and_the_gateways_macs_are_dropped() {
    let scene = Scene::new().unwrap();
    let macs = ["br0", "up0"].map(|name| scene.mac(name).unwrap());
    drop(scene);
    let gateway = [0x52, 0x54, 0, 0xff, 0xff, 1];
    let of = |mac| detector_common::samples::tcp4(mac, IP_A);
    play([macs[0], macs[1], gateway].map(|mac| row("a MAC", "tap-a", of(mac), "mac-not-granted")));
}
