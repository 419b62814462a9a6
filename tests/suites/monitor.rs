//! The monitor: what a real daemon says is shown to who may see it, people act by it, and it rebuilds what it knows.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "monitor/fleet.rs"]
mod fleet;
#[path = "monitor/local.rs"]
mod local;
#[path = "monitor/metrics.rs"]
mod metrics;
#[path = "monitor/page.rs"]
mod page;
#[path = "monitor/scale.rs"]
mod scale;

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::frames::Station;
use detector_tests::monitor::{Monitor, USER};
use detector_tests::scene::{PATIENCE, Scene};
use detector_tests::wait;

const A: Station = Station::number(10);
const B: Station = Station::number(11);
const PORT: u16 = 8470;
/// A name that would like to be more than text: to a browser, a terminal, a reader. As TOML has it.
const HOSTILE: &str = r#"<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202Egpj.exe"#;

/// A daemon that lets the monitor's user operate.
fn daemon<'a>(scene: &'a Scene, vms: &[String], more: &str) -> Daemon<'a> {
    let settings = Settings {
        inventory: vms.concat(),
        more: format!("unknown_port_grace = \"200ms\"\n[roles]\nadminister = [\"{USER}\"]\n{more}"),
        ..Settings::default()
    };
    Daemon::start(scene.host(), &settings).unwrap()
}

/// A monitor of this host alone.
fn monitor(scene: &Scene) -> Monitor<'_> {
    let socket = scene.host().path("detector.sock");
    Monitor::start(scene.host(), "monitor", PORT, &format!("[local]\nsocket = {socket:?}\n"))
        .unwrap()
}

fn await_that<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    wait::until(what, PATIENCE, || Ok(ask())).unwrap()
}
