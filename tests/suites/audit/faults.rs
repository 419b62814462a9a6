//! Disks and files that fail: what is in force does not depend on the record.

use std::process::Command;

use rusqlite::Connection;

use super::*;

fn shell(scene: &Scene, text: &str) {
    scene.host().check(Command::new("sh").args(["-ec", text])).unwrap();
}

/// A state directory of its own, of so many bytes, mounted inside the host.
fn mount(scene: &Scene, options: &str) -> String {
    let state = scene.host().path("state").display().to_string();
    shell(scene, &format!("mkdir -p {state}; mount -t tmpfs -o mode=700,{options} tmpfs {state}"));
    state
}

fn finding(daemon: &Daemon<'_>, what: &str) -> Option<Value> {
    let list = daemon.ask(&["finding", "list"]).unwrap();
    let all = list.json["findings"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["kind"] == "audit-impaired" && one.to_string().contains(what))
}

fn await_finding(daemon: &Daemon<'_>, what: &str) -> Value {
    wait::until(&format!("the finding {what}"), PATIENCE, || Ok(finding(daemon, what))).unwrap()
}

fn await_no_finding(daemon: &Daemon<'_>) {
    daemon.await_no_finding("audit-impaired", PATIENCE).unwrap();
}

/// What makes safe is done, everything else is refused as long as it cannot be put on record.
fn assert_only_what_makes_safe(daemon: &Daemon<'_>, mac: &str) {
    said(daemon, &["quarantine", "add", "mac", mac, "--reason", "incident 43"]);
    let refused = daemon.ask(&["quarantine", "release", "mac", mac]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.complaint.contains("nothing was done"), "{refused:?}");
    let list = said(daemon, &["quarantine", "list"]);
    assert!(list.to_string().contains(mac), "{list}");
}

#[test]
fn a_full_disk_costs_nothing_that_is_in_force_and_is_caught_up_with() {
    let scene = Scene::new().unwrap();
    let state = mount(&scene, "size=2m");
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    assert_in_force(&scene, &a, &stray, 1);
    shell(&scene, &format!("cat /dev/zero > {state}/fill || true"));
    // The file has some room of its own left.
    let mut number = 0;
    wait::until("the disk to be full", PATIENCE, || {
        number += 1;
        let mac = format!("02:00:00:00:01:{number:02x}");
        daemon.ask(&["quarantine", "add", "mac", &mac, "--reason", &"x".repeat(400)])?;
        Ok(finding(&daemon, "full"))
    })
    .unwrap();
    assert_only_what_makes_safe(&daemon, "02:00:00:00:00:77");
    assert_in_force(&scene, &a, &stray, 2);
    let denied = scene.plug("tap-d").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    denied.send(&beat(DENIED, 1)).unwrap();
    assert_in_force(&scene, &a, &stray, 3);
    assert_eq!(scene.copies_outside(&beat(DENIED, 1)).unwrap(), 0);

    shell(&scene, &format!("rm {state}/fill"));
    await_no_finding(&daemon);
    await_record(&daemon, "vm", "denied", "quarantined");
    let (asked, done) = action(&daemon, "quarantine-add");
    assert_eq!(
        (&asked["why"], &asked["subject"]["id"]),
        (&"incident 43".into(), &"02:00:00:00:00:77".into())
    );
    assert_eq!(done["kind"], "action-done");
    said(&daemon, &["quarantine", "release", "mac", "02:00:00:00:00:77"]);
    assert_verifies(&daemon);
}

#[test]
fn a_state_directory_that_is_read_only_is_caught_up_with() {
    let scene = Scene::new().unwrap();
    let state = mount(&scene, "size=8m,ro");
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    let finding = await_finding(&daemon, "audit (unwritable)");
    assert!(finding.to_string().contains("audit.db"), "{finding}");
    assert_in_force(&scene, &a, &stray, 1);
    assert_only_what_makes_safe(&daemon, "02:00:00:00:00:77");
    let absent = daemon.ask(&["audit", "list"]).unwrap();
    assert!(absent.code == 1 && absent.complaint.contains("there is no audit at"), "{absent:?}");

    shell(&scene, &format!("mount -o remount,rw {state}"));
    await_no_finding(&daemon);
    await_record(&daemon, "port", "tap-a", "granted");
    assert_eq!(action(&daemon, "quarantine-add").1["kind"], "action-done");
    assert_verifies(&daemon);
    // Read where nothing can be written, with the daemon dead: as after a disk has failed.
    let mut daemon = daemon;
    daemon.terminate().unwrap();
    shell(&scene, &format!("mount -o remount,ro {state}"));
    assert_verifies(&daemon);
}

#[test]
fn a_damaged_file_is_set_aside_and_the_next_one_says_so() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    await_record(&daemon, "port", "tap-a", "granted");
    daemon.terminate().unwrap();
    let head = said(&daemon, &["audit", "head"])["head"].clone();
    let mut bytes = std::fs::read(database(&scene)).unwrap();
    // The table of checkpoints, or what else is last.
    let end = bytes.len() - 4096;
    bytes[end..].fill(0x5a);
    std::fs::write(database(&scene), &bytes).unwrap();
    let damaged = bytes;
    daemon.run().unwrap();
    await_finding(&daemon, "set-aside");
    assert_in_force(&scene, &a, &stray, 1);
    let first = records(&daemon).remove(0);
    assert_eq!(first["kind"], "chain-begun");
    let aside = first["evidence"]["set-aside"][0].as_str().unwrap().to_owned();
    assert_eq!(std::fs::read(&aside).unwrap(), damaged, "nothing of it is lost");
    let known = first["evidence"]["last-known-head"][0].as_str().unwrap();
    assert!(known.contains(head["hash"].as_str().unwrap()), "{known}: {head}");
    assert_verifies(&daemon);
    std::fs::remove_file(&aside).unwrap();
    await_no_finding(&daemon);
}

#[test]
fn a_newer_file_is_left_alone_and_an_older_daemon_enforces_all_the_same() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    await_record(&daemon, "port", "tap-a", "granted");
    daemon.terminate().unwrap();
    let version = |number: u32| {
        let file = Connection::open(database(&scene)).unwrap();
        file.pragma_update(None, "user_version", number).unwrap();
    };
    version(99);
    daemon.run().unwrap();
    await_finding(&daemon, "is of a newer detector");
    assert_in_force(&scene, &a, &stray, 1);
    assert_only_what_makes_safe(&daemon, "02:00:00:00:00:77");
    let refused = daemon.ask(&["audit", "list"]).unwrap();
    assert!(refused.complaint.contains("is of a newer detector"), "{refused:?}");
    daemon.kill().unwrap();
    // By the pins as well: it waits in a file for whoever can number it.
    said(&daemon, &["quarantine", "add", "mac", "02:00:00:00:00:78", "--reason", "incident 44"]);
    version(1);
    daemon.run().unwrap();
    await_no_finding(&daemon);
    let asked = await_record(&daemon, "action-asked", "02:00:00:00:00:78", "quarantine-add");
    assert_eq!((&asked["why"], &asked["who"]["via"]), (&"incident 44".into(), &"pins".into()));
    assert!(!scene.host().path("state/audit.spool").exists());
    assert_verifies(&daemon);
}
