//! What whoever runs many hosts does with the daemon: reload it, watch it, measure it, confine it, upgrade it,
//! and take it off again.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "operations/compromised.rs"]
mod compromised;
#[path = "operations/confined.rs"]
mod confined;
#[path = "operations/detach.rs"]
mod detach;
#[path = "operations/doctor.rs"]
mod doctor;
#[path = "operations/hostile.rs"]
mod hostile;
#[path = "operations/metrics.rs"]
mod metrics;
#[path = "operations/notify.rs"]
mod notify;
#[path = "operations/parts.rs"]
mod parts;
#[path = "operations/ready.rs"]
mod ready;
#[path = "operations/reload.rs"]
mod reload;
#[path = "operations/roles.rs"]
mod roles;
#[path = "operations/upgrade.rs"]
mod upgrade;

use detector_tests::frames::Station;

const A: Station = Station::number(10);
const B: Station = Station::number(11);
const STRAY: Station = Station::number(99);
