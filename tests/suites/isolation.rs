//! What is quarantined: a shield against its floods, and the sandbox, through real taps.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "isolation/by_hand.rs"]
mod by_hand;
#[path = "isolation/kept.rs"]
mod kept;
#[path = "isolation/kinds.rs"]
mod kinds;
#[path = "isolation/rules.rs"]
mod rules;
#[path = "isolation/sandbox.rs"]
mod sandbox;
#[path = "isolation/services.rs"]
mod services;
#[path = "isolation/shield.rs"]
mod shield;

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::frames::{self, Station};
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, same, vm};
use detector_tests::tap::Tap;
use detector_tests::{link, wait};

const A: Station = Station::number(10);
const B: Station = Station::number(11);
const DENIED: Station = Station::number(20);

/// An entry of a VM that the policy denies.
fn denied(name: &str, port: &str, station: Station) -> String {
    vm(name, port, station).replace("\"lab\"", "\"no such template\"")
}

/// A daemon on these VMs with further configuration.
fn daemon<'a>(scene: &'a Scene, mode: &'static str, vms: &[String], more: &str) -> Daemon<'a> {
    let settings =
        Settings { mode, inventory: vms.concat(), more: more.to_owned(), ..Settings::default() };
    Daemon::start(scene.host(), &settings).unwrap()
}

/// Waits until a VM that meets the requirements by now is let out of quarantine.
fn await_release(daemon: &Daemon<'_>, vm: &str) {
    wait::until("the quarantine to be lifted", PATIENCE, || {
        Ok((daemon.ask(&["quarantine", "release", "vm", vm])?.code == 0).then_some(()))
    })
    .unwrap();
}

/// Frames from the port with this reason.
fn counted(daemon: &Daemon<'_>, port: &str, reason: &str) -> u64 {
    let shown = daemon.ask(&["port", "show", port]).unwrap().json;
    shown["counters"]["from"][reason].as_u64().unwrap_or(0)
}
