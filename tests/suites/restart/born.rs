//! A port that is born into a host without its daemon, and never stops sending.

use detector_tests::ears::Ears;

use super::*;

/// From its first frame, through the daemon's start and its own guard, a stray tap reaches nobody, while
/// what is granted goes on.
#[test]
fn a_port_born_while_the_daemon_is_dead_reaches_nobody_at_any_instant() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let ears = Ears::open(scene.host().network(), detector_guest::PORT).unwrap();
    let mut stray = None;
    let sent = stream(&[(&a, A)], |more| {
        more(100);
        daemon.kill().unwrap();
        let born = stray.insert(scene.plug("stray0").unwrap());
        stream(&[(born, STRAY)], |more| {
            more(100);
            daemon.run().unwrap();
            daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
            more(100);
        });
        more(100);
    });
    scene.await_stream(A.mac, 0, sent - 1).unwrap();
    assert_eq!(Flow::of(&scene.outside().unwrap(), STRAY.mac).len(), 0, "outside");
    let heard = a.drain().unwrap();
    assert!(!heard.iter().any(|frame| frame.get(6..12) == Some(&STRAY.mac[..])), "a neighbour");
    let host_heard = |station: Station| ears.heard(station.ip.into()).unwrap();
    assert!(host_heard(A) > 0);
    assert_eq!(host_heard(STRAY), 0, "the host");

    // All three would have heard it.
    daemon.terminate().unwrap();
    daemon.switch_to("observe");
    daemon.run().unwrap();
    let shout = beat(STRAY, sent);
    stray.unwrap().send(&shout).unwrap();
    scene.await_outside("the stray's", &shout).unwrap();
    a.await_frame("the stray's", PATIENCE, |frame| same(frame, &shout)).unwrap();
    wait::until("the host", PATIENCE, || Ok((host_heard(STRAY) > 0).then_some(()))).unwrap();
}
