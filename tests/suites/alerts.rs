//! Alerts arrive: at real receivers, at ones that are away or answer wrongly, and with a daemon that is
//! killed meanwhile.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "alerts/bad_receivers.rs"]
mod bad_receivers;
#[path = "alerts/journald.rs"]
mod journald;
#[path = "alerts/mail.rs"]
mod mail;
#[path = "alerts/people.rs"]
mod people;
#[path = "alerts/unheard.rs"]
mod unheard;

use std::time::Duration;

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::receivers::{Alertmanager, Certificates, Rsyslog};
use detector_tests::scene::{PATIENCE, Scene};
use detector_tests::wait;

/// A configuration with these sinks.
fn settings(sinks: &str) -> Settings {
    let more = format!(
        "unknown_port_grace = \"200ms\"\n[alerts]\ntimeout = \"2s\"\nsettle = \"2s\"\n\
         overdue = \"2s\"\n{sinks}"
    );
    Settings { mode: "enforce", more, ..Settings::default() }
}

/// What is waited for, with the end of the daemon's log when it does not come.
fn await_that(daemon: &Daemon<'_>, what: &str, mut ask: impl FnMut() -> bool) {
    let result = wait::until(what, PATIENCE, || Ok(ask().then_some(())));
    if let Err(error) = result {
        let status = daemon.show(&["alert", "status"]).unwrap();
        let list = daemon.show(&["alert", "list"]).unwrap();
        panic!("{error}\n{status}\n{list}");
    }
}

fn place(lines: &[String], words: &[&str]) -> Option<usize> {
    lines.iter().position(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn rsyslog_gets_every_alert_also_those_of_when_it_was_away_and_the_daemon_was_killed() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let certificates = Certificates::make(host).unwrap();
    let mut rsyslog = Rsyslog::configure(host, &certificates).unwrap();
    rsyslog.start().unwrap();
    let sinks = format!(
        "[[alerts.syslog]]\nname = \"udp\"\naddress = \"127.0.0.1:{}\"\ntransport = \"udp\"\n\
         [[alerts.syslog]]\nname = \"tls\"\naddress = \"127.0.0.1:{}\"\ntransport = \"tls\"\n\
         format = \"ocsf\"\nfacility = \"local3\"\ntls = {{ ca = {:?} }}\n",
        Rsyslog::UDP,
        Rsyslog::TLS,
        certificates.ca,
    );
    let mut daemon = Daemon::start(host, &settings(&sinks)).unwrap();
    let test = daemon.ask(&["alert", "test"]).unwrap();
    assert_eq!(test.code, 0, "{test:?}");

    let stray = scene.plug("stray0").unwrap();
    let has = |rsyslog: &Rsyslog<'_>, transport: &str, words: &[&str]| {
        place(&rsyslog.lines(transport).unwrap(), words).is_some()
    };
    let text = ["authpriv|err|", "|detector|unknown-port|[detector@32473 id=", "stray0", "opened"];
    await_that(&daemon, "the alert by UDP", || has(&rsyslog, "udp", &text));
    let ocsf = ["local3|err|", "\"class_uid\":2004", "stray0", "\"activity_id\":1"];
    await_that(&daemon, "the alert by TLS", || has(&rsyslog, "tls", &ocsf));

    // What happens while it is away waits on the disk, also when the daemon is killed.
    rsyslog.kill().unwrap();
    drop(stray);
    let _second = scene.plug("stray1").unwrap();
    daemon.await_finding("unknown-port", "stray1", PATIENCE).unwrap();
    await_that(&daemon, "both to wait", || {
        let waiting = daemon.ask(&["alert", "list"]).unwrap().json["alerts"].to_string();
        waiting.contains("closed") && waiting.contains("stray1")
    });
    daemon.kill().unwrap();
    let known = rsyslog.lines("tls").unwrap().len();
    rsyslog.start().unwrap();
    daemon.run().unwrap();
    await_that(&daemon, "what waited", || {
        let lines = rsyslog.lines("tls").unwrap().split_off(known);
        let closed = place(&lines, &["stray0", "\"activity_id\":3"]);
        let opened = place(&lines, &["stray1", "\"activity_id\":1"]);
        matches!((closed, opened), (Some(closed), Some(opened)) if closed < opened)
    });
    await_that(&daemon, "the outbox to be empty", || {
        daemon.ask(&["alert", "list"]).unwrap().json["alerts"] == serde_json::json!([])
    });
    // It is the same alert after the restart, so that it is not told again.
    let opened: Vec<_> = rsyslog.lines("tls").unwrap();
    let opened = opened.iter().filter(|l| l.contains("stray1") && l.contains("\"activity_id\":1"));
    assert_eq!(opened.count(), 1);
}

#[test]
fn an_alertmanager_hears_what_fires_again_and_when_it_ends() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let mut manager = Alertmanager::configure(host).unwrap();
    let sinks = format!(
        "[[alerts.alertmanager]]\nname = \"am\"\nurl = \"http://127.0.0.1:{}\"\nresend = \"1s\"\n",
        Alertmanager::PORT
    );
    let daemon = Daemon::start(host, &settings(&sinks)).unwrap();
    // It is not there yet when the alert is made.
    let stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    let fires = |manager: &Alertmanager<'_>| {
        let firing = manager.firing().unwrap_or_default();
        firing.into_iter().find(|alert| alert["labels"]["alertname"] == "unknown-port")
    };
    manager.start().unwrap();
    await_that(&daemon, "it to fire", || fires(&manager).is_some());
    let alert = fires(&manager).unwrap();
    assert_eq!(alert["labels"]["severity"], "high");
    assert_eq!(alert["labels"]["technique"], "T1564.006");
    assert!(alert["annotations"]["summary"].as_str().unwrap().contains("stray0"), "{alert}");
    let ends = |alert: &serde_json::Value| {
        alert["endsAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    await_that(&daemon, "it to last longer", || {
        fires(&manager).is_some_and(|later| ends(&later) > ends(&alert))
    });
    // One that has forgotten everything is told again.
    manager.kill().unwrap();
    manager.start().unwrap();
    await_that(&daemon, "it to fire again", || fires(&manager).is_some());
    drop(stray);
    await_that(&daemon, "it to be resolved", || fires(&manager).is_none());
    wait::pause(Duration::from_millis(1_500));
    assert!(fires(&manager).is_none(), "it is not sent again");
}
