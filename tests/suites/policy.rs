//! The policy of a running daemon: what takes its place, and what does not.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::process::Command;

use detector_core::decide::policy::DEFAULT;
use detector_tests::artefacts;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, vm};
use detector_tests::{tap::Tap, wait};

const A: Station = Station::number(10);
const B: Station = Station::number(11);

const NO_B: &str = r#"
@id("no-b")
@sentence("A VM is not called b.")
@remedy("Call it something else.")
forbid (principal, action == Action::"join", resource == Network::"br0")
unless { principal has name && principal.name != "b" };
"#;

fn assert_speaks(scene: &Scene, tap: &Tap, station: Station, seq: u64) {
    tap.send(&beat(station, seq)).unwrap();
    scene.await_outside("what the guest sends", &beat(station, seq)).unwrap();
}

fn put(scene: &Scene, text: &str) {
    let new = scene.host().path("policy.new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, scene.host().path("policy.cedar")).unwrap();
}

/// What a person does: try the policy, see what it would do, put it in place, and see who it was.
#[test]
fn a_policy_is_tried_before_anything_is_done() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), vm("b", "tap-b", B)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();

    let new = scene.host().path("new.cedar");
    let new = new.to_str().unwrap();
    std::fs::write(new, DEFAULT).unwrap();
    let same = daemon.ask(&["policy", "diff", new]).unwrap();
    assert_eq!((same.code, same.json["changes"].as_array().unwrap().len()), (0, 0));

    std::fs::write(new, format!("{NO_B}{DEFAULT}")).unwrap();
    let diff = daemon.ask(&["policy", "diff", new]).unwrap();
    assert_eq!((diff.code, &diff.json["vms"]), (3, &2.into()), "{diff:?}");
    let changes = diff.json["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!((&changes[0]["vm"]["name"], &changes[0]["to"]), (&"b".into(), &"denied".into()));
    assert_eq!(changes[0]["rules"], serde_json::json!(["no-b"]));
    assert_speaks(&scene, &b, B, 1);

    put(&scene, &format!("{NO_B}{DEFAULT}"));
    daemon.await_port("tap-b", "isolated", PATIENCE).unwrap();
    b.send(&beat(B, 2)).unwrap();
    assert_speaks(&scene, &a, A, 2);
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(B, 2)).unwrap(), 0, "what is denied is not heard");

    let explained = daemon.ask(&["policy", "explain", "b"]).unwrap();
    assert_eq!((explained.code, &explained.json["rules"]), (3, &serde_json::json!(["no-b"])));
    let said = daemon.show(&["explain", "b"]).unwrap();
    assert!(
        said.contains("A VM is not called b.") && said.contains("Call it something else."),
        "{said}"
    );
    let finding = daemon.await_finding("rogue-vm", "no-b", PATIENCE).unwrap();
    assert!(finding.to_string().contains("decided by"), "{finding}");
    let shown = daemon.ask(&["policy", "show"]).unwrap();
    assert!(shown.json["origin"].as_str().unwrap().ends_with("policy.cedar"), "{shown:?}");
}

/// Also over a restart, where there is no policy before it but the built-in one.
#[test]
fn a_policy_that_cannot_be_used_changes_nothing() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let broken = DEFAULT.replace("principal has mediaLocal && ", "");
    let line =
        broken.lines().position(|line| line.contains("|| principal.mediaLocal")).unwrap() + 1;
    let place = format!("policy.cedar:{line}:");
    put(&scene, &broken);
    let finding = daemon.await_finding("policy-invalid", &place, PATIENCE).unwrap();
    assert!(finding.to_string().contains("the built-in policy is in force"), "{finding}");
    let path = scene.host().path("policy.cedar");
    let check = daemon.ask(&["policy", "check", path.to_str().unwrap()]).unwrap();
    assert_eq!((check.code, &check.json["faults"][0]["line"]), (1, &line.into()));
    let diff = daemon.ask(&["policy", "diff", path.to_str().unwrap()]).unwrap();
    assert_eq!(diff.code, 1);
    assert!(diff.complaint.contains(&place), "{diff:?}");
    assert_speaks(&scene, &a, A, 1);

    daemon.kill().unwrap();
    daemon.run().unwrap();
    let shown = daemon.ask(&["policy", "show"]).unwrap();
    assert!(shown.json["origin"].is_null(), "{shown:?}");
    assert!(shown.json["refused"][0].as_str().unwrap().contains(&place), "{shown:?}");
    assert_speaks(&scene, &a, A, 2);
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
}

/// Needs no daemon, and no root: whoever writes a policy tries it.
#[test]
fn a_policy_is_tried_on_cases() {
    let scene = Scene::new().unwrap();
    let test = |policy: &str, cases: &str| {
        let [policy_file, cases_file] = ["own.cedar", "cases.toml"].map(|n| scene.host().path(n));
        std::fs::write(&policy_file, policy).unwrap();
        std::fs::write(&cases_file, cases).unwrap();
        let mut command = Command::new(artefacts::detector().unwrap());
        command.args(["--output", "json", "policy", "test"]).arg(cases_file);
        command.arg("--policy").arg(policy_file);
        let output = scene.host().output(&mut command).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), json, said)
    };
    let (code, json, said) = test(DEFAULT, include_str!("../../packaging/policy-cases.toml"));
    assert_eq!(code, Some(0), "{said}");
    assert!(json["cases"].as_array().unwrap().len() >= 10, "{json}");
    assert_eq!(json["cases"][0]["rules"], serde_json::json!(["may-join"]));

    let grace =
        r#"@id("time") @grace("1h") permit (principal, action == Action::"grace", resource);"#;
    let policy = format!("{NO_B}{grace}{DEFAULT}");
    let own = "[[case]]\nname = \"b\"\nvm_name = \"b\"\nexpect = \"denied\"\nrules = [\"no-b\"]\n";
    let (code, _, said) = test(&policy, &format!("{own}grace = \"60m\"\npause = false\n"));
    assert_eq!(code, Some(0), "{said}");
    let (code, json, said) = test(&policy, &format!("{own}grace = \"none\"\n"));
    assert_eq!((code, said.contains("1 of 1 cases")), (Some(1), true), "{said}");
    assert!(json["cases"][0]["wrong"][0].as_str().unwrap().contains("1h"), "{json}");
    let (code, _, said) = test(&policy.replace("1h", "soon"), own);
    assert_eq!((code, said.contains("is no grace period")), (Some(1), true), "{said}");
}

/// libvirt hands the hook's standard error to whoever has typed `virsh start`.
#[test]
fn whoever_starts_a_refused_vm_reads_the_rules_sentence() {
    let scene = Scene::new().unwrap();
    let more = "[admission]\ndenied = \"refuse\"\n".to_owned();
    let settings = Settings { evidence: "digest", more, ..Settings::default() };
    put(&scene, &format!("{NO_B}{DEFAULT}").replace("resource == Network::\"br0\"", "resource"));
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let image = scene.host().path("rogue.img");
    std::fs::write(&image, [7; 4096]).unwrap();
    let xml = format!(
        "<domain type='kvm'><name>b</name><uuid>00000000-0000-4000-8000-000000000007</uuid>\
         <os><type>hvm</type><boot dev='hd'/></os><devices><disk type='file' device='disk'>\
         <driver type='raw'/><source file='{}'/><target dev='vda'/></disk></devices></domain>",
        image.display()
    );
    let child = daemon.ask_hook("b", &xml).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        "the VM b may not start",
        "[no-b] Not met: A VM is not called b.",
        "[template-registered] A VM descends from a registered template.",
        "detector explain b",
    ] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
}

const HONEST: &str = r#"
@id("honest")
@sentence("A VM speaks as itself.")
forbid (principal, action == Action::"join", resource)
when { principal has findings && principal.findings.contains("foreign-identity") };
"#;

/// What a kind of finding leads to is the policy's word: to nothing but the finding, or to a quarantine, which stays.
#[test]
fn a_finding_leads_to_what_the_policy_says() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), vm("b", "tap-b", B)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let spoof = Station { mac: [0x52, 0x54, 0, 0, 0, 99], ..A };
    a.send(&beat(spoof, 1)).unwrap();
    daemon.await_finding("foreign-identity", "tap-a", PATIENCE).unwrap();
    assert_speaks(&scene, &a, A, 2);

    put(&scene, &format!("{HONEST}{DEFAULT}"));
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    let explained = daemon.ask(&["policy", "explain", "a"]).unwrap();
    assert_eq!((explained.code, &explained.json["rules"]), (3, &serde_json::json!(["honest"])));
    let listed = daemon.ask(&["quarantine", "list"]).unwrap().json;
    assert_eq!(listed["quarantines"][0]["name"], "a", "{listed}");
    a.send(&beat(A, 3)).unwrap();
    assert_speaks(&scene, &b, B, 3);
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(A, 3)).unwrap(), 0);
    assert_eq!(daemon.ask(&["vm", "show", "b"]).unwrap().json["status"], "approved");
}
