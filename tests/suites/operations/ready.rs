//! Whether VMs may start, by what the kernel holds, and whether or not a daemon runs.

use std::process::{Command, Stdio};

use detector_tests::daemon::{Answer, Daemon, Settings};
use detector_tests::link;
use detector_tests::scene::{PATIENCE, Scene};

fn why(answer: &Answer) -> String {
    let why = answer.json["why"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
    format!("{} {why}", answer.code)
}

#[test]
fn vms_may_start_once_every_bridge_is_gated() {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    let settings = Settings { bridges: vec!["*"], ..Settings::default() };
    let mut daemon = Daemon::configure(scene.host(), &settings).unwrap();
    let ready = |daemon: &Daemon<'_>| why(&daemon.ask(&["ready"]).unwrap());
    assert_eq!(ready(&daemon), "3 nothing is in force yet");
    daemon.run().unwrap();
    assert_eq!(ready(&daemon), "0 every bridge is gated");

    // One that it does not see, while it is away.
    daemon.kill().unwrap();
    assert_eq!(ready(&daemon), "0 every bridge is gated");
    link::bridge(network, "br9").unwrap();
    assert_eq!(ready(&daemon), "3 no gate is on br9");
    let mut waiting = Command::new("sh");
    waiting.args(["-c", &format!("exec {} ready --wait", daemon.command_line())]);
    waiting.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut waiting = scene.host().spawn(&mut waiting).unwrap();
    // Whoever is plugged in elsewhere is mute.
    for (bridge, code, expect) in
        [("br9", 1, "nothing in the kernel keeps it mute"), ("br0", 0, "starts mute")]
    {
        let xml = format!(
            "<domain><devices><interface type='bridge'><source bridge='{bridge}'/></interface></devices></domain>"
        );
        let hook = daemon.ask_hook("b", &xml).unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&hook.stderr);
        assert!(said.contains(expect) && hook.status.code() == Some(code), "{bridge}: {said}");
    }
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    daemon.run().unwrap();
    daemon.await_port("br9", "gate", PATIENCE).unwrap();
    assert_eq!(ready(&daemon), "0 every bridge is gated");
    let waited = waiting.wait_with_output().unwrap();
    assert!(waited.status.success(), "{waited:?}");
    let said = String::from_utf8_lossy(&waited.stderr);
    assert!(said.contains("VMs wait: no gate is on br9"), "{said}");

    assert_eq!(daemon.ask(&["observe"]).unwrap().code, 0);
    assert_eq!(ready(&daemon), "0 verdicts are only observed");
    daemon.kill().unwrap();
    scene.host().forget_pins().unwrap();
    assert_eq!(ready(&daemon), "0 verdicts are only observed", "what was confirmed last");
    daemon.run().unwrap();
    assert_eq!(daemon.ask(&["enforce"]).unwrap().code, 0);
    daemon.kill().unwrap();
    scene.host().forget_pins().unwrap();
    // A slip elsewhere makes nothing of that undone.
    daemon.write_configuration(&(daemon.configuration().unwrap() + "[oops]\n")).unwrap();
    assert_eq!(ready(&daemon), "3 nothing is in force yet");
}
