//! Hosts as a fleet, over a real NATS server: who may say what, what a host tells, what it is asked, which bundles it
//! takes, and that it goes on without all of that.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "fleet/bundles.rs"]
mod bundles;
#[path = "fleet/cluster.rs"]
mod cluster;
#[path = "fleet/commands.rs"]
mod commands;
#[path = "fleet/credentials.rs"]
mod credentials;
#[path = "fleet/drivers.rs"]
mod drivers;
#[path = "fleet/roll_out.rs"]
mod roll_out;
#[path = "fleet/telling.rs"]
mod telling;

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::frames::Station;
use detector_tests::nats::Nats;
use detector_tests::scene::{PATIENCE, Scene, vm};
use detector_tests::wait;

const A: Station = Station::number(10);
const B: Station = Station::number(11);

/// A daemon of the fleet, which knows two VMs.
fn daemon<'a>(scene: &'a Scene, nats: &Nats<'_>, more: &str) -> Daemon<'a> {
    let fleet = nats.section("h1", more).unwrap();
    let settings = Settings {
        inventory: [vm("a", "tap-a", A), vm("b", "tap-b", B)].concat(),
        more: format!("unknown_port_grace = \"200ms\"\n{fleet}"),
        ..Settings::default()
    };
    Daemon::start(scene.host(), &settings).unwrap()
}

/// Waits until it is so; otherwise with the end of the daemon's log.
fn await_that<T>(daemon: &Daemon<'_>, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    wait::until(what, PATIENCE, || Ok(ask())).unwrap_or_else(|error| {
        let log = std::fs::read_to_string(daemon.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        panic!("{error}\n{}", lines.join("\n"))
    })
}
