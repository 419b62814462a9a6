//! docs/attack-cases.md, row by row, through real taps: what a guest may not send reaches neither the
//! outside nor its neighbour, what it may send does, and the port's counters name the reason.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use detector::api::client::Client;
use detector::api::{Reply, Request};
use detector_common::samples::{
    BROADCAST, ICMPV6, IP_A, IP_B, IP6_A, MAC_A, MAC_B, arp, ethernet, ipv4, ipv6, link_layer,
    neighbour, tcp4, tcp6, udp,
};
use detector_tests::capture::Frame;
use detector_tests::daemon::Daemon;
use detector_tests::netns::NetNs;
use detector_tests::order::stay_in_order;
use detector_tests::scene::{self, PATIENCE, Scene};
use detector_tests::tap::Tap;
use detector_tests::wait;

#[path = "attack/form.rs"]
mod form;
#[path = "attack/pass.rs"]
mod pass;
#[path = "attack/rules.rs"]
mod rules;
#[path = "attack/spoof.rs"]
mod spoof;

/// A MAC that is nobody's here.
const UNKNOWN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x99];
/// The VM on tap-r plays every role.
const MAC_R: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0c];
const IP_R: [u8; 4] = [192, 0, 2, 12];
/// The address that it shares with another as a virtual router.
const IP_SHARED: [u8; 4] = [192, 0, 2, 254];
const IP6_SHARED: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe];

/// A tap and the identity under which it may say where a row has ended.
type Guest = (&'static str, [u8; 6], [u8; 4]);

const GUESTS: &[Guest] = &[("tap-a", MAC_A, IP_A), ("tap-b", MAC_B, IP_B), ("tap-r", MAC_R, IP_R)];

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
addresses = ["192.0.2.12", "192.0.2.254", "2001:db8::c", "2001:db8::fe"]
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

/// Guests, and everybody who listens.
struct Stage<'a> {
    scene: &'a Scene,
    client: Client,
    guests: &'static [Guest],
    taps: BTreeMap<&'static str, Tap>,
    marks: u16,
}

impl<'a> Stage<'a> {
    fn new(scene: &'a Scene, daemon: &Daemon<'a>, guests: &'static [Guest]) -> Result<Self> {
        // Snooping would keep reports for groups from whoever is no router.
        scene.host().network().ip("link set br0 type bridge mcast_snooping 0")?;
        let mut taps = BTreeMap::new();
        for (name, _, _) in guests {
            taps.insert(*name, scene.plug_granted(daemon, name)?);
        }
        stay_in_order();
        Ok(Self { scene, client: daemon.client()?, guests, taps, marks: 0 })
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
        let guest = self.guests.iter().find(|(name, _, _)| *name == port);
        let (_, mac, ip) = *guest.with_context(|| format!("there is no {port}"))?;
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
    play_among(GUESTS, INVENTORY, |_| rows.into_iter().collect());
}

/// Plays rows that may depend on what there is.
fn play_among(guests: &'static [Guest], inventory: &str, rows: impl FnOnce(&Scene) -> Vec<Row>) {
    let scene = Scene::new().unwrap();
    leave_fragments_alone(scene.host().network());
    let daemon = scene.daemon("enforce", &[inventory.to_owned()]).unwrap();
    let mut stage = Stage::new(&scene, &daemon, guests).unwrap();
    let mut failures = Vec::new();
    let rows = rows(&scene);
    for row in &rows {
        failures.extend(stage.check(row).unwrap());
    }
    println!("{} rows", rows.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // What was dropped has taught the bridge nothing.
    let known = guests.iter().map(|(name, mac, _)| (*mac, Some(*name)));
    for (mac, place) in known.chain([(UNKNOWN, None)]) {
        assert_eq!(scene.place_of(mac).unwrap().as_deref(), place);
    }
}

/// Where netfilter sits on bridges it may put fragments together, as that of Linux 5.10 does.
fn leave_fragments_alone(network: &NetNs) {
    for family in ["iptables", "ip6tables"] {
        let name = format!("net.bridge.bridge-nf-call-{family}");
        if Path::new("/proc/sys").join(name.replace('.', "/")).exists() {
            network.tool("sysctl", &format!("-qw {name}=0")).unwrap();
        }
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

#[test]
fn each_rule_for_a_nic_lets_through_what_it_grants_and_no_more() {
    play_among(rules::GUESTS, rules::INVENTORY, |_| rules::rows());
}

/// The host's own MACs are no guest's, and neither is that of a machine outside, under which others
/// know the way out.
#[test]
fn the_hosts_and_the_gateways_macs_are_dropped() {
    play_among(GUESTS, INVENTORY, |scene| {
        let gateway = scene::interface_mac(scene.far(), "far0").unwrap();
        let macs = [
            ("the bridge's", scene.mac("br0").unwrap()),
            ("the uplink's", scene.mac("up0").unwrap()),
            ("the gateway's", gateway),
        ];
        let frames = |mac| {
            let arp = ethernet(BROADCAST, mac, &[], 0x0806, &arp(1, mac, IP_A));
            let advertisement = neighbour(136, IP6_A, &[link_layer(2, mac)]);
            let packet = ipv6(IP6_A, ICMPV6, 255, &advertisement);
            [
                ("IPv4", tcp4(mac, IP_A)),
                ("IPv6", tcp6(mac, IP6_A)),
                ("ARP", arp),
                ("neighbour advertisement", ethernet(BROADCAST, mac, &[], 0x86dd, &packet)),
            ]
        };
        let rows = macs.into_iter().flat_map(|(whose, mac)| {
            let of = move |(what, frame)| {
                row(&format!("{what} under {whose} MAC"), "tap-a", frame, "mac-not-granted")
            };
            frames(mac).map(of)
        });
        rows.collect()
    });
}
