//! What guests, their managers and processes call themselves acts on nobody's terminal, whatever is asked and in
//! whatever form.

use std::process::{Command, Stdio};

use detector_tests::artefacts;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::scene::{PATIENCE, Scene, beat, vm};
use detector_tests::wait;

use super::{A, B, STRAY};

/// Sets a title, changes a colour, turns the text round, hides a character; C1 controls do what ESC does.
const EVIL: &str = "evil\u{1b}]0;owned\u{7}\u{202e}\u{200b}\u{9b}31m";
/// As long as the name of an interface may be.
const EVIL_PORT: &str = "t\u{1b}[31m\u{202e}";

/// What acts on a terminal, or on how a text is read.
fn acts(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn assert_plain(what: &str, text: &str) {
    if let Some(at) = text.find(acts) {
        let from = text[..at].char_indices().rev().nth(60).map_or(0, |(at, _)| at);
        panic!("{what}: {:?}", text[from..].chars().take(120).collect::<String>());
    }
}

/// A process that ends with this value; its host could not end before it.
struct Held(std::process::Child);

impl Drop for Held {
    fn drop(&mut self) {
        // It has ended by itself when this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_name_acts_on_a_terminal() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let quoted = EVIL.chars().map(|c| format!("\\u{:04x}", c as u32)).collect::<String>();
    let named = vm("plain", "tap-b", B).replace("\"plain\"", &format!("\"{quoted}\""));
    let log = host.path("alerts.jsonl");
    let more = format!(
        "unknown_port_grace = \"100ms\"\n[scan]\ninterval = \"200ms\"\ngrace = \"100ms\"\n\
         [[alerts.file]]\nname = \"file\"\npath = {log:?}\n"
    );
    let settings =
        Settings { inventory: vm("a", "tap-a", A) + &named, more, ..Settings::default() };
    let mut daemon = Daemon::start(host, &settings).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let _b = scene.plug_granted(&daemon, "tap-b").unwrap();
    // A port of that name, and a process that calls itself so, behind a tap that nobody knows.
    let stray = scene.plug("stray0").unwrap();
    let network = host.network();
    network.ip("link set stray0 down").unwrap();
    network.ip(&format!("link set stray0 name {EVIL_PORT}")).unwrap();
    network.ip(&format!("link set {EVIL_PORT} up")).unwrap();
    stray.send(&beat(STRAY, 1)).unwrap();
    let mut process = Command::new(artefacts::holder().unwrap());
    std::os::unix::process::CommandExt::arg0(&mut process, EVIL);
    process.args(["tap", "scan0"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let _process = Held(host.spawn(&mut process).unwrap());
    daemon.await_finding("unknown-vm-process", "scan0", PATIENCE).unwrap();
    let reason = ["quarantine", "add", "vm", EVIL, "--reason", EVIL];
    assert_eq!(daemon.ask(&reason).unwrap().code, 0);
    wait::until("the finding on the port", PATIENCE, || {
        let found = daemon.ask(&["finding", "list"])?.json["findings"].to_string();
        Ok((found.contains("unknown-port") && found.contains("[31m")).then_some(()))
    })
    .unwrap();

    let list = |words: &[&str], key: &str, id: &str| -> Vec<String> {
        let all = daemon.ask(words).unwrap().json[key].as_array().cloned().unwrap_or_default();
        all.iter()
            .map(|one| match &one[id] {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect()
    };
    let words = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut commands: Vec<_> = [
        &["status"][..],
        &["health"],
        &["metrics"],
        &["port", "list"],
        &["vm", "list"],
        &["quarantine", "list"],
        &["finding", "list"],
        &["process", "list"],
        &["template", "list"],
        &["alert", "status"],
        &["alert", "list"],
        &["clock"],
        &["policy", "show"],
        &["audit", "list", "--limit", "0"],
        &["enforce", "--dry-run"],
        &["doctor"],
        &["vm", "show", EVIL],
        &["explain", EVIL],
        &["explain", EVIL_PORT],
        &["port", "show", EVIL_PORT],
        // What is not there is repeated in the complaint.
        &["vm", "show", "\u{1b}c"],
        &["port", "show", "\u{1b}c"],
        &["explain", "\u{1b}c"],
        &["finding", "show", "\u{1b}c"],
        &["template", "show", "\u{1b}c"],
        &["quarantine", "show", "vm", "\u{1b}c"],
        &["\u{1b}c"],
    ]
    .map(words)
    .into();
    for id in list(&["finding", "list"], "findings", "id") {
        commands.push(words(&["finding", "show", &id]));
    }
    for pid in list(&["process", "list"], "processes", "pid") {
        commands.push(words(&["process", "show", &pid]));
    }
    let records = list(&["audit", "list", "--limit", "0"], "records", "seq");
    commands.extend(records.iter().map(|seq| words(&["audit", "show", seq])));
    assert!(commands.len() > 40, "{commands:?}");
    let say_all = |daemon: &Daemon<'_>, commands: &[Vec<String>]| {
        let mut said = 0;
        for command in commands {
            for form in ["table", "wide", "json"] {
                let mut all: Vec<_> = command.iter().map(String::as_str).collect();
                all.extend(["--output", form]);
                let text = daemon.show(&all).unwrap();
                assert_plain(&format!("{command:?} as {form}"), &text);
                said += text.matches("owned").count();
            }
        }
        said
    };
    let said = say_all(&daemon, &commands);
    assert!(said > 30, "the names are not in what was said: {said}");
    let exported = daemon.show(&["audit", "export"]).unwrap();
    assert_plain("the export of the audit", &exported);
    daemon.kill().unwrap();
    say_all(&daemon, &commands[..30.min(commands.len())]);

    // The log need not name anybody.
    for (file, names) in
        [(daemon.log(), false), (host.path("state/findings.jsonl"), true), (log, true)]
    {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("31m") || !names, "{}", file.display());
        assert_plain(&file.display().to_string(), &text);
    }
}
