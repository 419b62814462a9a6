//! The command line as a person uses it at a terminal: names that are completed or mistyped, tables that
//! are wide, and what is printed again and again.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use detector_tests::artefacts;
use detector_tests::daemon::Daemon;
use detector_tests::frames::Station;
use detector_tests::scene::{Scene, vm};
use serde_json::Value;

const A: Station = Station::number(10);

/// What a shell offers for the last of these words.
fn completed(scene: &Scene, words: &[&str]) -> Vec<String> {
    let mut shell = Command::new(artefacts::detector().unwrap());
    shell.env("COMPLETE", "fish").env("DETECTOR_CONFIG", scene.host().path("detector.toml"));
    shell.args(["--", "detector"]).args(words);
    let output = scene.host().output(&mut shell).unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_shell_knows_what_there_is_whether_the_daemon_lives_or_not() {
    let scene = Scene::new().unwrap();
    let hostile = vm("x; reboot", "tap-x", Station::number(11));
    let mut daemon = scene.daemon("enforce", &[vm("web1", "tap-a", A), hostile]).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let cases: [(&[&str], &[&str]); 6] = [
        (&["port", "show", "ta"], &["tap-a\tport, granted"]),
        (&["vm", "show", "w"], &["web1\tVM, approved"]),
        (&["vm", "show", "x"], &[]),
        (&["explain", "web"], &["web1\tVM, approved"]),
        (&["explain", "tap"], &["tap-a\tport, granted"]),
        (&["quarantine", "add", "vm", "w"], &["web1\tVM, approved"]),
    ];
    for (words, expected) in cases {
        assert_eq!(completed(&scene, words), expected, "{words:?}");
    }
    daemon.kill().unwrap();
    assert_eq!(completed(&scene, &["port", "show", "ta"]), ["tap-a\tport, granted"], "by the pins");
    assert_eq!(completed(&scene, &["vm", "show", "w"]), [""; 0], "nobody knows");
}

#[test]
fn a_name_that_is_mistyped_is_not_far_from_the_right_one() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("web1", "tap-a", A)]).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let complaint = |daemon: &Daemon<'_>, words: &[&str], close: &str| {
        let answer = daemon.ask(words).unwrap();
        assert_eq!(answer.code, 1, "{words:?}");
        let hint = format!("(did you mean \"{close}\"?)");
        assert!(answer.complaint.contains(&hint), "{words:?}: {}", answer.complaint);
    };
    complaint(&daemon, &["vm", "show", "wbe1"], "web1");
    complaint(&daemon, &["template", "show", "labb"], "lab");
    complaint(&daemon, &["port", "show", "tapa"], "tap-a");
    complaint(&daemon, &["explain", "web11"], "web1");
    complaint(&daemon, &["quarantine", "add", "vm", "Web1", "--reason", "x"], "web1");
    daemon.kill().unwrap();
    complaint(&daemon, &["port", "show", "tapa"], "tap-a");
}

#[test]
fn a_wide_table_says_more_and_a_narrow_one_fits() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("web1", "tap-a", A)]).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let address = A.ip.to_string();
    for (command, column) in [(["port", "list"], "ADDRESSES"), (["vm", "list"], "ADDRESSES")] {
        let narrow = daemon.show(&command).unwrap();
        assert!(!narrow.contains(column) && !narrow.contains(&address), "{narrow}");
        let wide = daemon.show(&[command[0], command[1], "--output", "wide"]).unwrap();
        assert!(wide.contains(column) && wide.contains(&address), "{wide}");
    }
}

/// A command that goes on.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(scene: &Scene, words: &[&str]) -> Self {
        let mut command = Command::new(artefacts::detector().unwrap());
        command.arg("--config").arg(scene.host().path("detector.toml")).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = scene.host().spawn(&mut command).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_watched_is_printed_again_and_outlives_the_daemon() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("web1", "tap-a", A)]).unwrap();
    let words = ["port", "list", "--watch=1", "--output", "json"];
    let mut watching = Watching::start(&scene, &words);
    let names = |value: &Value| value["ports"].to_string();
    assert!(!names(&watching.next()).contains("tap-a"));
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    while !names(&watching.next()).contains("tap-a") {}
    daemon.kill().unwrap();
    while watching.next()["source"] != "pins" {}
    daemon.run().unwrap();
    while watching.next()["source"] != "daemon" {}

    let refused = daemon.ask(&["quarantine", "release", "vm", "web1", "--watch"]).unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.complaint.contains("commands that read"), "{refused:?}");
}

#[test]
fn top_shows_ports_until_somebody_quits() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("web1", "tap-a", A)]).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let line = format!("stty rows 24 cols 120; exec {} top", daemon.command_line());
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    terminal.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut top = scene.host().spawn(&mut terminal).unwrap();
    let mut screen = Vec::new();
    let mut output = top.stdout.take().unwrap();
    while !String::from_utf8_lossy(&screen).contains("tap-a") {
        let mut more = [0; 4096];
        let count = output.read(&mut more).unwrap();
        assert!(count > 0, "it ended:\n{}", String::from_utf8_lossy(&screen));
        screen.extend(&more[..count]);
    }
    top.stdin.take().unwrap().write_all(b"q").unwrap();
    assert!(top.wait().unwrap().success());

    let answer = daemon.show(&["top"]).unwrap();
    assert!(answer.contains("top needs a terminal"), "{answer}");
}
