//! What a guest sends at full speed is its own trouble only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// One port sends under a new MAC with every frame, as fast as it can; another is watched all the same.
#[test]
fn a_flood_on_one_port_holds_up_nothing_on_another() {
    let scene = Scene::new().unwrap();
    let vms = [vm("flood", "tap-a", A), vm("quiet", "tap-b", OTHER)];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let (stop, busy) = (AtomicBool::new(false), daemon.busy().unwrap());
    let (sent, took, delay) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let [x, y, z, w] = sent.to_be_bytes();
                a.send(&beat(Station { mac: [2, 1, x, y, z, w], ..A }, 0)).unwrap();
                sent += 1;
            }
            sent
        });
        let start = Instant::now();
        wait::pause(Duration::from_secs(2));
        b.send(&beat(Station { ip: FOREIGN_IP, ..OTHER }, 1)).unwrap();
        let spoofed = Instant::now();
        daemon.await_finding("foreign-identity", "tap-b", PATIENCE).unwrap();
        let delay = spoofed.elapsed();
        b.send(&beat(OTHER, 2)).unwrap();
        scene.await_outside("the quiet one's", &beat(OTHER, 2)).unwrap();
        wait::pause(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        (flood.join().unwrap(), start.elapsed(), delay)
    });
    let busy = daemon.busy().unwrap() - busy;
    let findings = daemon.findings().unwrap().len();
    println!("{sent} frames in {took:?}; daemon busy {busy:?}; {findings} findings, {delay:?}");
    assert!(sent > 10_000, "{sent} frames are no flood");
    assert!(busy < took / 4, "the daemon was busy for {busy:?} of {took:?}");
    assert_eq!(findings, 2, "one for each port");
    assert_eq!(scene.place_of(A.mac).unwrap().as_deref(), Some("tap-a"));
}
