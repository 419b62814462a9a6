//! The daemon's own log, where nobody takes it any more.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::Command;

use detector_tests::daemon::{Daemon, Launch, Settings};
use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, Scene, beat, vm};
use nix::fcntl::{FcntlArg, fcntl};

use super::{await_that, place, settings};

const A: Station = Station::number(10);

/// As when systemd's journal hangs: the daemon's standard error is full, and stays so.
#[test]
fn a_log_that_nobody_takes_holds_up_nothing() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let alerts = host.path("alerts.jsonl");
    let sinks = format!("[[alerts.file]]\nname = \"file\"\npath = {alerts:?}\n");
    let settings = Settings { inventory: vm("a", "tap-a", A), ..settings(&sinks) };
    let mut daemon = Daemon::configure(host, &settings).unwrap();
    let journal = host.path("journal");
    host.check(Command::new("mkfifo").arg(&journal)).unwrap();
    let wrapper = ["sh", "-c", "exec \"$@\" 2>\"$0\"", journal.to_str().unwrap()];
    let wrapper = wrapper.map(str::to_owned).to_vec();
    daemon.launch_by(Launch { wrapper, ..Launch::default() });
    let log = host.path("detector-1.log");
    // Until the daemon is ready its log is taken, and then no more.
    let until_ready = std::thread::spawn(move || {
        let journal = File::open(journal).unwrap();
        fcntl(&journal, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        let mut journal = BufReader::with_capacity(1, journal);
        let mut copy = File::options().append(true).open(log).unwrap();
        let mut line = String::new();
        while !line.contains("\"ready\"") {
            line.clear();
            assert!(journal.read_line(&mut line).unwrap() > 0, "it has ended");
            copy.write_all(line.as_bytes()).unwrap();
        }
        journal
    });
    daemon.run().unwrap();
    let mut journal = until_ready.join().unwrap();

    // Each is a line of some hundred bytes.
    for number in 0..60 {
        let reloaded = daemon.ask(&["reload"]).unwrap();
        assert_eq!(reloaded.code, 0, "{number}: {reloaded:?}");
    }
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let _stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    await_that(&daemon, "the alert", || {
        let text = std::fs::read_to_string(&alerts).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        place(&lines, &["stray0"]).is_some()
    });
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("a frame", &beat(A, 1)).unwrap();

    // Once somebody takes it again, what was lost is told.
    let told = std::thread::spawn(move || {
        let mut line = String::new();
        while !line.contains("are lost") {
            line.clear();
            assert!(journal.read_line(&mut line).unwrap() > 0, "it has ended");
        }
    });
    await_that(&daemon, "the loss to be told", || {
        assert_eq!(daemon.ask(&["reload"]).unwrap().code, 0);
        told.is_finished()
    });
    told.join().unwrap();
}
