//! A libvirt that hangs, dies half-way or comes back with something else.

use std::process::Command;

use detector_tests::daemon::Daemon;
use detector_tests::guest::{Guest, hex};
use detector_tests::libvirt::Libvirt;
use detector_tests::libvirt::proxy::{CONNECT_LIST_ALL_DOMAINS, DOMAIN_GET_XML_DESC, Proxy};
use detector_tests::tap::{Header, Tap};
use detector_tests::{link, wait};

use super::{Lab, PATIENCE};

/// Stopped in mid-air, libvirt is lost; when it goes on, and when it comes back from the dead, everything is
/// listed anew.
#[test]
fn a_libvirt_that_hangs_or_restarts_takes_nothing_away_and_lets_nothing_in() {
    let lab = Lab::new();
    let mut daemon = Daemon::configure(&lab.host, &lab.settings()).unwrap();
    let mut libvirt = Libvirt::start(&lab.host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let [guest, mut other] = [Guest::new("steady", 31), Guest::new("changed", 32)];
    libvirt.define(&guest, &lab.image, "br0").unwrap();
    libvirt.define(&other, &lab.image, "br0").unwrap();
    libvirt.start_domain(&guest).unwrap();
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();

    libvirt.freeze().unwrap();
    // A port that nobody knows has libvirt asked whose it is.
    let stray = Tap::open(lab.host.network(), "stray0", Header::None).unwrap();
    lab.host.network().ip("link set stray0 up").unwrap();
    link::enslave(lab.host.network(), "stray0", "br0").unwrap();
    let finding = daemon.await_finding("source-lost", "qemu:///system", PATIENCE).unwrap();
    let title = finding["title"].as_str().unwrap();
    assert!(title.contains("it has not answered for 15 s: asked to list"), "{title}");
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
    daemon.await_port("stray0", "pending", PATIENCE).unwrap();
    lab.await_more(&guest);
    libvirt.resume().unwrap();
    daemon.await_no_finding("source-lost", PATIENCE).unwrap();
    drop(stray);

    libvirt.kill().unwrap();
    let lost = |line: &serde_json::Value| line["finding"]["kind"] == "source-lost";
    wait::until("the second loss", PATIENCE, || {
        let opened = daemon.findings()?.into_iter().filter(|line| line["event"] == "opened");
        Ok((opened.filter(lost).count() == 2).then_some(()))
    })
    .unwrap();
    lab.await_more(&guest);
    // What is stored of a domain that is off changes meanwhile.
    let before = hex(other.mac);
    other.mac[5] = 33;
    let edit = format!("s/{before}/{}/", hex(other.mac));
    let stored = format!("/etc/libvirt/qemu/{}.xml", other.name);
    lab.host.check(Command::new("sed").args(["-i", &edit, &stored])).unwrap();
    libvirt.restart().unwrap();
    daemon.await_no_finding("source-lost", PATIENCE).unwrap();
    let shown = daemon.ask(&["vm", "show", &other.name]).unwrap();
    assert_eq!(shown.json["nics"][0]["mac"], hex(other.mac), "{shown:?}");
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
    libvirt.start_domain(&other).unwrap();
    let other = libvirt.tap(&other).unwrap();
    daemon.await_port(&other, "granted", PATIENCE).unwrap();
    lab.await_more(&guest);
}

/// Half a listing is no listing, and keep-alive does not notice one domain that is stuck.
#[test]
fn a_libvirt_that_dies_half_way_or_is_stuck_with_one_domain_is_lost() {
    let lab = Lab::new();
    let mut libvirt = Libvirt::start(&lab.host, None).unwrap();
    let proxy = Proxy::start(&lab.host.path("proxy.sock"), &libvirt).unwrap();
    let mut settings = lab.settings();
    settings.uris = vec![proxy.uri()];
    let daemon = Daemon::start(&lab.host, &settings).unwrap();
    let [guest, stuck] = [Guest::new("steady", 34), Guest::new("stuck", 35)];
    libvirt.define(&guest, &lab.image, "br0").unwrap();
    libvirt.define(&stuck, &lab.image, "br0").unwrap();
    libvirt.start_domain(&guest).unwrap();
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();

    proxy.hold(CONNECT_LIST_ALL_DOMAINS);
    let stray = Tap::open(lab.host.network(), "stray0", Header::None).unwrap();
    lab.host.network().ip("link set stray0 up").unwrap();
    link::enslave(lab.host.network(), "stray0", "br0").unwrap();
    proxy.await_held(PATIENCE).unwrap();
    libvirt.kill().unwrap();
    proxy.release().unwrap();
    let finding = daemon.await_finding("source-lost", "proxy.sock", PATIENCE).unwrap();
    let title = finding["title"].as_str().unwrap();
    assert!(!title.contains("has not answered"), "it was the connection: {title}");
    let listed = daemon.ask(&["vm", "list"]).unwrap();
    assert_eq!(listed.json["vms"].as_array().map(Vec::len), Some(2), "{listed:?}");
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
    libvirt.restart().unwrap();
    daemon.await_no_finding("source-lost", PATIENCE).unwrap();
    drop(stray);

    proxy.hold(DOMAIN_GET_XML_DESC);
    libvirt.start_domain(&stuck).unwrap();
    let mute = libvirt.tap(&stuck).unwrap();
    // Whichever comes first in a listing: its reply is kept back like the other's.
    let what = "has not answered for 15 s: asked to describe the domain";
    daemon.await_finding("source-lost", what, PATIENCE).unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
    daemon.await_port(&mute, "pending", PATIENCE).unwrap();
    lab.await_more(&guest);
    proxy.release().unwrap();
    daemon.await_port(&mute, "granted", PATIENCE).unwrap();
    daemon.await_no_finding("source-lost", PATIENCE).unwrap();
}
