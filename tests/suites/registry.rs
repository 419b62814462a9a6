//! Templates as an operator handles them, and what becomes of the VMs.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::fs;

use detector_tests::daemon::{Answer, Daemon, LAB_TEMPLATE, Settings};
use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, vm};
use detector_tests::tap::Tap;
use detector_tests::wait;

#[path = "registry/volumes.rs"]
mod volumes;

const A: Station = Station::number(10);
const B: Station = Station::number(11);

/// Runs a command that has to end like that.
fn run(daemon: &Daemon<'_>, words: &[&str], code: i32) -> Answer {
    let answer = daemon.ask(words).unwrap();
    assert_eq!(answer.code, code, "{words:?}: {answer:?}");
    answer
}

/// The port is cut off.
fn assert_cut_off(scene: &Scene, tap: &Tap, station: Station, seq: u64) {
    tap.send(&beat(station, seq)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(station, seq)).unwrap(), 0);
}

#[test]
fn a_template_from_its_images_to_its_end() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[]).unwrap();
    let disk = scene.host().path("golden.raw");
    fs::write(&disk, vec![7; 3 << 20]).unwrap();
    let disk = disk.display().to_string();
    let add = ["template", "add", "web", "--version", "1", "--os", "Debian 12", "--disk", &disk];

    let dry = run(&daemon, &[&add[..], &["--dry-run"]].concat(), 0);
    assert!(dry.json["file"].is_null(), "{dry:?}");
    let added = run(&daemon, &add, 0);
    let file = added.json["file"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(&file).unwrap(), added.json["manifest"].as_str().unwrap());
    let again = run(&daemon, &add, 1);
    assert!(again.complaint.contains("needs another --version"), "{again:?}");
    let overlay = run(&daemon, &["template", "add", "none"], 1);
    assert!(overlay.complaint.contains("approves nothing"), "{overlay:?}");

    // Whoever asks next sees it: nobody waits for it to be noticed.
    let shown = run(&daemon, &["template", "show", "web"], 0).json;
    assert_eq!((&shown["status"], &shown["serial"]), (&"draft".into(), &1.into()), "{shown}");
    run(&daemon, &["template", "verify", &disk], 3);

    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("# Built by Ann.\n{text}")).unwrap();
    let approved = run(&daemon, &["template", "approve", "web", "--reason", "tested"], 0).json;
    assert_eq!(approved["in_force"], "approved", "{approved}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# Built by Ann.\n") && text.contains("serial = 2"), "{text}");
    run(&daemon, &["template", "verify", &disk], 0);

    // A second version, and which one is meant.
    let other = scene.host().path("other.raw");
    fs::write(&other, vec![8; 1 << 20]).unwrap();
    let other = other.display().to_string();
    run(&daemon, &["template", "add", "web", "--version", "2", "--disk", &other, "--approve"], 0);
    let which = run(&daemon, &["template", "revoke", "web", "--reason", "old"], 1);
    assert!(which.complaint.contains("web@1, web@2"), "{which:?}");
    run(&daemon, &["template", "deprecate", "web@1", "--reason", "old"], 0);

    run(&daemon, &["template", "verify", "web"], 0);
    fs::write(&other, "swapped").unwrap();
    let swapped = run(&daemon, &["template", "verify", "web@2"], 3).json;
    assert_eq!(swapped["images"][0]["outcome"], "different", "{swapped}");
    fs::remove_file(&other).unwrap();
    let gone = run(&daemon, &["template", "verify"], 3).json;
    let outcomes: Vec<_> = gone["images"].as_array().unwrap().iter().collect();
    let of = |name: &str| {
        outcomes.iter().find(|one| one["template"] == name).unwrap()["outcome"].clone()
    };
    assert_eq!(
        (of("web@1"), of("web@2"), of("lab")),
        ("same".into(), "unreadable".into(), "not-recorded".into())
    );

    // Without the daemon the manifests speak.
    daemon.terminate().unwrap();
    let shown = run(&daemon, &["template", "show", "web@1"], 0);
    assert_eq!(shown.json["status"], "deprecated", "{shown:?}");
    assert!(shown.complaint.contains("this is what the manifests say"), "{shown:?}");
    let revoked = run(&daemon, &["template", "revoke", "web@1", "--reason", "old"], 0).json;
    assert!(revoked["in_force"].is_null(), "{revoked}");
}

#[test]
fn revoking_acts_on_vms_that_run() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), vm("b", "tap-b", B)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("an approved one", &beat(A, 1)).unwrap();

    run(&daemon, &["template", "deprecate", "lab"], 0);
    daemon.await_finding("deprecated-template", "lab", PATIENCE).unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();

    let revoked = run(&daemon, &["template", "revoke", "lab", "--reason", "CVE-2026-1"], 0).json;
    assert_eq!(revoked["vms"], serde_json::json!(["a", "b"]), "{revoked}");
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    assert_cut_off(&scene, &a, A, 2);
    daemon.await_finding("rogue-vm", "CVE-2026-1", PATIENCE).unwrap();
}

#[test]
fn a_grace_period_is_for_those_that_run() {
    let scene = Scene::new().unwrap();
    let vms = [vm("a", "tap-a", A), vm("b", "tap-b", B)].concat();
    let more = "revoked_grace = \"1h\"\n".to_owned();
    let settings = Settings { inventory: vms, more, ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();

    run(&daemon, &["template", "revoke", "lab", "--reason", "CVE-2026-1"], 0);
    let finding = daemon.await_finding("revoked-template", "CVE-2026-1", PATIENCE).unwrap();
    assert!(finding.to_string().contains("deadline"), "{finding}");
    daemon.await_port("tap-a", "kept", PATIENCE).unwrap();
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("one within its grace", &beat(A, 1)).unwrap();
    // Who comes now does not come in.
    let b = scene.plug("tap-b").unwrap();
    daemon.await_port("tap-b", "isolated", PATIENCE).unwrap();
    assert_cut_off(&scene, &b, B, 2);

    // Nothing but time passes at the end of it.
    let since = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(3600 - 2);
    let text = LAB_TEMPLATE.replace("approved", "revoked");
    daemon.write_template("lab.toml", &format!("since = {since}\n{text}")).unwrap();
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    assert_cut_off(&scene, &a, A, 3);
}

#[test]
fn a_revocation_may_be_a_finding_only() {
    let scene = Scene::new().unwrap();
    let vms = [vm("a", "tap-a", A), vm("b", "tap-b", B)].concat();
    let more = "revoked = \"finding\"\n".to_owned();
    let settings = Settings { inventory: vms, more, ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();

    run(&daemon, &["template", "revoke", "lab", "--reason", "CVE-2026-1"], 0);
    let finding = daemon.await_finding("revoked-template", "CVE-2026-1", PATIENCE).unwrap();
    assert!(finding.to_string().contains("as the policy says"), "{finding}");
    daemon.await_port("tap-a", "kept", PATIENCE).unwrap();
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("what keeps what is in force", &beat(A, 1)).unwrap();
    // Nobody new is admitted, and a new life of the port is new.
    let b = scene.plug("tap-b").unwrap();
    daemon.await_port("tap-b", "isolated", PATIENCE).unwrap();
    assert_cut_off(&scene, &b, B, 1);
}

#[test]
fn only_a_signed_manifest_revokes_and_nothing_older_undoes_it() {
    let key = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let sign = |text: &str| {
        let signed = minisign::sign(Some(&key.pk), &key.sk, text.as_bytes(), None, None).unwrap();
        signed.into_string()
    };
    let scene = Scene::new().unwrap();
    let first = format!("serial = 1\n{LAB_TEMPLATE}");
    let trusted = key.pk.to_base64();
    let settings = Settings {
        inventory: vm("a", "tap-a", A),
        templates: vec![
            ("lab.toml".to_owned(), first.clone()),
            ("lab.toml.minisig".to_owned(), sign(&first)),
        ],
        more: format!("[registry]\ntrusted_keys = [{trusted:?}]\nrequire_signature = true\n"),
        ..Settings::default()
    };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let shown = run(&daemon, &["template", "show", "lab"], 0).json;
    assert_eq!(shown["signed_by"], trusted, "{shown}");

    // The command changes the manifest, and nothing is in force before it is signed.
    let revoked = run(&daemon, &["template", "revoke", "lab", "--reason", "CVE-2026-1"], 0).json;
    assert_eq!(revoked["in_force"], "approved", "{revoked}");
    daemon.await_finding("entry-rejected", "not of what it says", PATIENCE).unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    run(&daemon, &["template", "verify"], 3);
    let second = fs::read_to_string(revoked["file"].as_str().unwrap()).unwrap();
    daemon.write_template("lab.toml.minisig", &sign(&second)).unwrap();
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    assert_cut_off(&scene, &a, A, 1);

    // What was signed once is still signed, and does not come back.
    daemon.write_template("lab.toml.minisig", &sign(&first)).unwrap();
    daemon.write_template("lab.toml", &first).unwrap();
    daemon.await_finding("entry-rejected", "serial 1 is lower than 2", PATIENCE).unwrap();
    let shown = run(&daemon, &["template", "show", "lab"], 0).json;
    assert_eq!(shown["status"], "revoked", "{shown}");
    let refused = run(&daemon, &["quarantine", "release", "vm", "a"], 1);
    assert!(refused.complaint.contains("revoked"), "{refused:?}");
}
