//! A VM moves between two hosts, each with a libvirt and a daemon of its own: the MAC is its own
//! throughout, wherever it is at the time.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::net::Ipv4Addr;
use std::process::Child;
use std::time::Duration;

use anyhow::Context;
use detector_tests::capture::Capture;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::family::Family;
use detector_tests::flow::{Flow, await_whole};
use detector_tests::frames::{BROADCAST, Station};
use detector_tests::guest::{Guest, Image, hex};
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::netns::NetNs;
use detector_tests::order::in_order;
use detector_tests::packet::PacketSocket;
use detector_tests::scene::same;
use detector_tests::{link, wait};

#[path = "migration/fleet.rs"]
mod fleet;
#[path = "migration/trouble.rs"]
mod trouble;

/// Two guests' worth of memory go through an emulated CPU.
const PATIENCE: Duration = Duration::from_secs(90);

/// Two hosts on a switch, and somebody else on it.
struct Street {
    outside: Capture,
    stranger: PacketSocket,
    guest: Guest,
    image: Image,
    hosts: [Host; 2],
    _switch: NetNs,
    _far: NetNs,
}

/// A host with what runs on it.
struct Home<'a> {
    host: &'a Host,
    daemon: Daemon<'a>,
    libvirt: Libvirt<'a>,
    /// What its bridge hands to the host: everything that the gate of the uplink lets in, too.
    inside: Capture,
    address: Ipv4Addr,
}

impl Street {
    fn new() -> Self {
        let switch = NetNs::new().unwrap();
        link::bridge(&switch, "sw0").unwrap();
        let far = NetNs::new().unwrap();
        let hosts = [0, 1].map(|_| Host::new().unwrap());
        for (number, host) in (1..).zip(&hosts) {
            let network = host.network();
            link::bridge(network, "br0").unwrap();
            network.ip(&format!("link set br0 address 02:b0:00:00:01:0{number}")).unwrap();
            network.ip(&format!("address add 192.0.2.{number}/24 dev br0")).unwrap();
            let there = format!("host{number}");
            link::cable((network, "up0"), (&switch, &there)).unwrap();
            link::enslave(network, "up0", "br0").unwrap();
            link::enslave(&switch, &there, "sw0").unwrap();
        }
        link::cable((&switch, "other"), (&far, "far0")).unwrap();
        link::enslave(&switch, "other", "sw0").unwrap();
        let directory = hosts[0].directory();
        Self {
            outside: Capture::start(&far, "far0").unwrap(),
            stranger: PacketSocket::open(&far, "far0").unwrap(),
            guest: Guest::new("wanderer", 11),
            image: Image::make(directory, "base", "an image that was reviewed").unwrap(),
            hosts,
            _switch: switch,
            _far: far,
        }
    }

    /// Settles in; the guest runs at the first.
    fn homes(&self) -> [Home<'_>; 2] {
        self.homes_with(|daemon, _| daemon.hook(), ["", ""])
    }

    /// The same with a hook of the test's for each host, and with more in their configurations.
    fn homes_with(
        &self,
        hook: impl Fn(&Daemon<'_>, &Host) -> String,
        [one, two]: [&str; 2],
    ) -> [Home<'_>; 2] {
        let homes = [(1, one), (2, two)].map(|(number, more)| Home::new(self, number, more, &hook));
        let [from, _] = &homes;
        from.libvirt.define(&self.guest, &self.image, "br0").unwrap();
        from.libvirt.start_domain(&self.guest).unwrap();
        self.await_beats(200);
        from.await_defence(true, self);
        homes
    }

    fn flow(&self) -> Flow {
        Flow::of(&self.outside.frames().unwrap(), self.guest.mac)
    }

    /// Waits for so many more beats of the guest; returns the number of the last one.
    fn await_beats(&self, more: u64) -> u64 {
        let goal = self.flow().last_seq().map_or(more, |seq| seq + more);
        let reached = || Ok(self.flow().last_seq().filter(|seq| *seq >= goal));
        wait::until(&format!("{more} more beats"), PATIENCE, reached).unwrap()
    }

    /// Whether a frame that a stranger sends under the guest's MAC gets into the host, before one that
    /// follows it under another. Over IPv6 it has to be the same.
    fn lets_in(&self, home: &Home<'_>, payload: &str) -> bool {
        let [v4, v6] = Family::BOTH.map(|family| self.lets_in_over(family, home, payload));
        assert_eq!(v4, v6, "{payload}: over IPv4 and over IPv6");
        v4
    }

    fn lets_in_over(&self, family: Family, home: &Home<'_>, payload: &str) -> bool {
        let to = (BROADCAST, Ipv4Addr::BROADCAST);
        let clone = Station { mac: self.guest.mac, ip: self.guest.ip };
        let [clone, follows] = [clone, Station::number(99)]
            .map(|station| family.udp(station, to, (7, 7), payload.as_bytes()));
        in_order(|| {
            self.stranger.send(&clone).unwrap();
            self.stranger.send(&follows).unwrap();
        });
        let inside = &home.inside;
        inside.await_frame("what follows", PATIENCE, |f| same(&f.bytes, &follows)).unwrap();
        inside.frames().unwrap().iter().any(|f| same(&f.bytes, &clone))
    }

    /// Every frame that the guest has sent has arrived everywhere, and nothing is out of order.
    fn assert_nothing_lost(&self, homes: &[Home<'_>; 2], to: u64) {
        await_whole(&self.outside, self.guest.mac, 0, to).unwrap();
        for home in homes {
            let whole = await_whole(&home.inside, self.guest.mac, 0, to);
            whole.with_context(|| format!("at {}", home.address)).unwrap();
            for kind in ["tampered", "foreign-identity", "enforcement-failed", "rogue-vm"] {
                let findings = home.daemon.findings().unwrap();
                assert!(!findings.iter().any(|f| f["finding"]["kind"] == kind), "{findings:?}");
            }
        }
    }
}

impl<'a> Home<'a> {
    fn new(
        street: &'a Street,
        number: u8,
        more: &str,
        hook: impl Fn(&Daemon<'_>, &Host) -> String,
    ) -> Self {
        let host = &street.hosts[usize::from(number) - 1];
        let manifest = street.image.manifest("base").unwrap();
        // The second host lets it have what a server leases only, and there is none.
        let nic = format!("[[nic]]\nmac = \"{}\"\nrule = \"dhcp\"\n", hex(street.guest.mac));
        let settings = Settings {
            evidence: "digest",
            libvirt: true,
            inventory: if number == 2 { nic } else { String::new() },
            templates: vec![("base.toml".to_owned(), manifest)],
            more: more.to_owned(),
            ..Settings::default()
        };
        let mut daemon = Daemon::configure(host, &settings).unwrap();
        let libvirt = Libvirt::start(host, Some(&hook(&daemon, host))).unwrap();
        daemon.run().unwrap();
        let inside = Capture::start(host.network(), "br0").unwrap();
        Self { host, daemon, libvirt, inside, address: Ipv4Addr::new(192, 0, 2, number) }
    }

    /// The one address that the guest has learned here, and how it came by it.
    fn lent(&self, street: &Street) -> (String, String) {
        let vm = self.daemon.ask(&["vm", "show", &street.guest.name]).unwrap().json;
        let port = vm["nics"][0]["port"].as_str().unwrap();
        let told = self.daemon.ask(&["port", "show", port]).unwrap().json;
        let [only] = told["learned"].as_array().unwrap().as_slice() else { panic!("{told}") };
        let text = |key: &str| only[key].as_str().unwrap().to_owned();
        assert!(only["expires"].is_string(), "{told}");
        (text("address"), text("origin"))
    }

    /// What the bridge knows of the guest's MAC.
    fn forwarding(&self, street: &Street) -> String {
        let table = self.host.network().bridge("fdb show br br0").unwrap();
        let mac = hex(street.guest.mac);
        table.lines().filter(|line| line.starts_with(&mac)).collect()
    }

    /// Waits until the daemon defends the guest's MAC, or does so no more.
    fn await_defence(&self, defends: bool, street: &Street) {
        let what = if defends { "the MAC's defence" } else { "the end of the MAC's defence" };
        wait::until(what, PATIENCE, || {
            Ok((self.forwarding(street).contains("sticky") == defends).then_some(()))
        })
        .unwrap();
    }

    /// What its bridge has handed to it.
    fn flow(&self, street: &Street) -> Flow {
        Flow::of(&self.inside.frames().unwrap(), street.guest.mac)
    }

    fn mistakes_the_guest(&self) -> bool {
        let findings = self.daemon.findings().unwrap();
        findings.iter().any(|finding| finding["finding"]["kind"] == "mac-clone")
    }
}

fn end(migration: Child) -> (bool, String) {
    let output = migration.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Moves the guest, and looks at everything before and after.
fn moves(options: &[&str]) {
    let street = Street::new();
    let homes = street.homes();
    let [from, to] = &homes;
    assert!(!street.lets_in(from, "a clone where the guest is"));
    from.daemon.await_finding("mac-clone", "wanderer", PATIENCE).unwrap();
    assert!(street.lets_in(to, "at the other host it is outside"));

    let migration = from.libvirt.migrate(&street.guest, &to.libvirt, to.address, options).unwrap();
    let (done, said) = end(migration);
    assert!(done, "{said}");
    to.await_defence(true, &street);
    let last = street.await_beats(300);
    assert!(!to.mistakes_the_guest(), "the guest's own frames, before it arrived");
    street.assert_nothing_lost(&homes, last);
    // It has brought no lease along, and goes on under its address nonetheless.
    assert_eq!(to.lent(&street), (street.guest.ip.to_string(), "migrated".to_owned()));
    // QEMU announces five times; each has to reach the host that the guest has left.
    let (mut sent, mut heard) = (0, 0);
    let told = wait::until("the announcements", PATIENCE, || {
        (sent, heard) = (street.flow().announcements(), from.flow(&street).announcements());
        Ok((sent >= 5 && heard >= sent).then_some(()))
    });
    println!("{options:?}: {last} beats, {sent} announcements, {heard} heard at the former host");
    told.unwrap();
    assert!(from.forwarding(&street).contains("dev up0"), "{}", from.forwarding(&street));

    assert!(!street.lets_in(to, "a clone where the guest is now"));
    to.daemon.await_finding("mac-clone", "wanderer", PATIENCE).unwrap();
    assert!(street.lets_in(from, "there it is outside now"));
}

#[test]
fn a_live_migration_loses_nothing() {
    moves(&["--live"]);
}

#[test]
fn neither_does_one_by_post_copy() {
    moves(&["--live", "--postcopy", "--postcopy-after-precopy"]);
}
