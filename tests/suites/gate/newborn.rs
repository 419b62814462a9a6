//! A bridge that appears with its way out and a tap on it, all at once.

use detector_tests::capture::Capture;
use detector_tests::flow::Flow;
use detector_tests::link;
use detector_tests::needs::found;
use detector_tests::scene::stream;

use super::*;

/// What the daemon has not seen yet is not gated: how long a tap that sends without end gets out is measured here.
#[test]
fn a_new_bridge_is_open_for_moments_only() {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    let settings =
        Settings { bridges: vec!["*"], uplinks: vec!["up0", "up9"], ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    link::cable((network, "up9"), (scene.far(), "far9")).unwrap();
    let outside = Capture::start(scene.far(), "far9").unwrap();
    let stray = Tap::open(network, "stray0", Header::None).unwrap();
    network.ip("link set stray0 addrgenmode none up").unwrap();
    let script = scene.host().path("batch");
    let at_once = "link add br9 address 02:b0:00:00:00:09 type bridge mcast_snooping 0\n\
                   link set br9 addrgenmode none up\n\
                   link set up9 master br9\n\
                   link set stray0 master br9\n";
    std::fs::write(&script, at_once).unwrap();
    let out = || Flow::of(&outside.frames().unwrap(), STRAY.mac).len();
    stream(&[(&stray, STRAY)], |more| {
        more(100);
        network.ip(&format!("-batch {}", script.display())).unwrap();
        for (port, status) in [("br9", "gate"), ("up9", "gate"), ("stray0", "pending")] {
            daemon.await_port(port, status, PATIENCE).unwrap();
        }
        more(100);
        let before = out();
        more(300);
        assert_eq!(out(), before, "it goes on");
    });
    let frames = outside.frames().unwrap();
    let mut strays = frames.iter().filter(|frame| frame.source() == Some(STRAY.mac));
    let lasted = match (strays.next(), strays.next_back()) {
        (Some(first), Some(last)) => last.at - first.at,
        _ => Duration::ZERO,
    };
    found(&format!("out of a new bridge {} frames got in {lasted:?}", out()));
}
