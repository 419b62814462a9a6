//! A real systemd-journald, which has the daemon's log and its alerts, goes away and comes back.

use detector_tests::daemon::{Daemon, Launch, Settings};
use detector_tests::frames::Station;
use detector_tests::receivers::Journald;
use detector_tests::scene::{PATIENCE, Scene, beat, vm};

use super::{await_that, place, settings};

const A: Station = Station::number(10);
/// Every alert.
const ALERTS: &str = "MESSAGE_ID=d5a31fb0b3d94f0e9b1ad0a0de7ec70f";
/// The daemon's own log.
const LOG: &str = "SYSLOG_IDENTIFIER=detector";
/// As the service manager starts it: with the stream to the journal, and its name. What is said until it is ready is
/// in the log that is waited for as well.
const BY_THE_JOURNAL: &str = "exec systemd-cat -t detector sh -c \
    'export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec \"$@\"' sh \"$@\"";

#[test]
fn the_journal_ends_under_the_daemon_and_comes_back() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let mut journald = Journald::start(host).unwrap();
    let sinks = "[[alerts.journald]]\nname = \"journal\"\n";
    let settings = Settings { inventory: vm("a", "tap-a", A), ..settings(sinks) };
    let mut daemon = Daemon::configure(host, &settings).unwrap();
    let wrapper = ["sh", "-c", BY_THE_JOURNAL, "sh"].map(str::to_owned).to_vec();
    daemon.launch_by(Launch { wrapper, ..Launch::default() });
    let is_ready = || Ok(place(&journald.entries(LOG)?, &["\"ready\""]).is_some());
    if let Err(error) = daemon.run_until(is_ready) {
        let log = std::fs::read_to_string(daemon.log()).unwrap_or_default();
        panic!("{error:#}\n{log}{}", journald.entries(LOG).unwrap().join("\n"));
    }
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let _first = scene.plug("stray0").unwrap();
    await_that(&daemon, "the alert in the journal", || {
        place(&journald.entries(ALERTS).unwrap(), &["stray0"]).is_some()
    });

    // The stream is cut in the midst of lines, and the socket is nobody's.
    journald.kill().unwrap();
    for number in 0..20 {
        let reloaded = daemon.ask(&["reload"]).unwrap();
        assert_eq!(reloaded.code, 0, "{number}: {reloaded:?}");
    }
    let second = scene.plug("stray1").unwrap();
    daemon.await_finding("unknown-port", "stray1", PATIENCE).unwrap();
    await_that(&daemon, "the finding about the journal", || {
        daemon.ask(&["finding", "list"]).unwrap().json.to_string().contains("alerts-undelivered")
    });
    second.send(&beat(Station::number(99), 1)).unwrap();
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("a frame of the VM", &beat(A, 1)).unwrap();

    journald.run().unwrap();
    await_that(&daemon, "the alert of meanwhile", || {
        place(&journald.entries(ALERTS).unwrap(), &["stray1"]).is_some()
    });
    await_that(&daemon, "the loss to be told, and what is said since", || {
        assert_eq!(daemon.ask(&["reload"]).unwrap().code, 0);
        let log = journald.entries(LOG).unwrap();
        let told = place(&log, &["are lost", "\"lost\":"]);
        told.is_some_and(|at| log.len() > at + 1)
    });
    await_that(&daemon, "the end of the finding", || {
        !daemon.ask(&["finding", "list"]).unwrap().json.to_string().contains("alerts-undelivered")
    });
    assert_eq!(daemon.ask(&["alert", "status"]).unwrap().code, 0);
}
