//! VMs that were cut off are brought back, with a real libvirt: patched, and by a template of their image.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "remediation/contained.rs"]
mod contained;
#[path = "remediation/people.rs"]
mod people;

use std::path::{Path, PathBuf};
use std::time::Duration;

use detector_tests::capture::{Capture, Frame};
use detector_tests::daemon::{Answer, Daemon, Settings};
use detector_tests::guest::{Guest, Image};
use detector_tests::libvirt::Libvirt;
use detector_tests::netns::NetNs;
use detector_tests::offline::{self, Tree};
use detector_tests::scene::Scene;
use detector_tests::{artefacts, link, wait};
use serde_json::Value;
use sha2::{Digest, Sha256};

const PATIENCE: Duration = Duration::from_secs(60);
/// The guests do not hear that they are to shut down.
const SANDBOX: &str = "default_rule = \"any\"\n[sandbox]\nbridge = \"sbx0\"\ncreate = true\n\
                       [remediation]\nshutdown_grace = \"1s\"\n";

/// A host with a template of one image.
struct Place {
    image: Image,
    scene: Scene,
}

/// Somebody who offers something in the sandbox, of which the daemon has made the bridge.
struct Service {
    heard: Capture,
    _network: NetNs,
}

impl Service {
    fn attach(scene: &Scene) -> Self {
        let network = scene.host().network();
        wait::until("the sandbox to be made", PATIENCE, || {
            Ok(network.ip("link show sbx0 up").ok().map(drop))
        })
        .unwrap();
        let own = NetNs::new().unwrap();
        link::cable((network, "svc0"), (&own, "eth0")).unwrap();
        link::enslave(network, "svc0", "sbx0").unwrap();
        let heard = Capture::start(&own, "eth0").unwrap();
        Self { heard, _network: own }
    }
}

impl Place {
    fn new() -> Self {
        let scene = Scene::new().unwrap();
        let image = Self::make(&scene, "base");
        Self { image, scene }
    }

    fn image(&self, name: &str) -> Image {
        Self::make(&self.scene, name)
    }

    fn make(scene: &Scene, name: &str) -> Image {
        Image::make(scene.host().directory(), name, name).unwrap()
    }

    fn configure(&self) -> Daemon<'_> {
        self.configure_with("")
    }

    /// With further keys of the section `remediation`.
    fn configure_with(&self, more: &str) -> Daemon<'_> {
        let settings = Settings {
            evidence: "digest",
            libvirt: true,
            templates: vec![("lab.toml".to_owned(), self.image.placed_manifest("lab").unwrap())],
            more: format!("{SANDBOX}{more}"),
            ..Settings::default()
        };
        Daemon::configure(self.scene.host(), &settings).unwrap()
    }

    /// The guest boots from an overlay over the image from now on.
    fn lay(&self, guest: &Guest, image: &Image) {
        image.overlay(&guest.overlay(self.scene.host().directory())).unwrap();
    }

    fn outside(&self, guest: &Guest) -> usize {
        let frames = self.scene.outside().unwrap();
        frames.iter().filter(|frame| is_from(frame, guest)).count()
    }
}

fn is_from(frame: &Frame, guest: &Guest) -> bool {
    frame.bytes.get(6..12) == Some(&guest.mac[..])
}

fn digest(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn remediate(daemon: &Daemon<'_>, words: &[&str]) -> Answer {
    daemon.ask(&[&["remediate"], words].concat()).unwrap()
}

fn done(daemon: &Daemon<'_>, words: &[&str]) -> Value {
    let answer = remediate(daemon, words);
    assert_eq!(answer.code, 0, "{words:?}: {}", answer.complaint);
    answer.json
}

/// Waits for what is said of the VM's remediation.
fn await_status(
    daemon: &Daemon<'_>,
    guest: &Guest,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Value {
    wait::until(&format!("{}: {what}", guest.name), PATIENCE, || {
        let all = remediate(daemon, &["status", &guest.name]).json;
        let one = all["remediations"][0].clone();
        Ok(is(&one).then_some(one))
    })
    .unwrap()
}

fn await_stage(daemon: &Daemon<'_>, guest: &Guest, stage: &str) -> Value {
    await_status(daemon, guest, stage, |one| one["stage"] == stage)
}

fn waits_for(one: &Value, what: &str) -> bool {
    one["waits"].as_str().is_some_and(|waits| waits.contains(what))
}

fn isolation(daemon: &Daemon<'_>, tap: &str) -> Value {
    daemon.ask(&["port", "show", tap]).unwrap().json["isolation"].clone()
}

/// A rogue VM comes back once its image is another one, which somebody has approved, and not before.
#[test]
fn a_patched_vm_returns_with_its_mac_and_its_traffic() {
    let place = Place::new();
    let (rogue, patched) = (place.image("rogue"), place.image("patched"));
    let mut daemon = place.configure();
    let libvirt = Libvirt::start(place.scene.host(), Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let service = Service::attach(&place.scene);
    let guest = Guest::new("web", 51);
    libvirt.define(&guest, &rogue, "br0").unwrap();
    libvirt.start_domain(&guest).unwrap();
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "isolated", PATIENCE).unwrap();
    daemon.await_finding("rogue-vm", &guest.name, PATIENCE).unwrap();

    let plan = done(&daemon, &["plan", "web"]);
    assert!(plan["steps"].to_string().contains("verify"), "{plan}");
    assert_eq!(remediate(&daemon, &["status", "web"]).code, 1, "a plan does nothing");
    done(&daemon, &["start", "web", "--outcome", "patched", "--reason", "ticket 42"]);
    // What is answered is on the disk: killed wherever it is by now, it goes on.
    daemon.kill().unwrap();
    daemon.run().unwrap();
    await_stage(&daemon, &guest, "provisioning");
    wait::until("the VM to be in the sandbox", PATIENCE, || {
        Ok((isolation(&daemon, &tap) == "sandbox").then_some(()))
    })
    .unwrap();
    service.heard.await_frame("the guest", PATIENCE, |frame| is_from(frame, &guest)).unwrap();
    assert_eq!(place.outside(&guest), 0, "nobody else hears it");
    let refused = daemon.ask(&["quarantine", "release", "vm", "web"]).unwrap();
    assert!(refused.complaint.contains("remediate abort"), "{}", refused.complaint);

    libvirt.destroy(&guest).unwrap();
    place.lay(&guest, &patched);
    let new = digest(&patched.disk);
    await_status(&daemon, &guest, "its image at rest", |one| {
        one["media"].to_string().contains(&new)
    });
    let approve = |digest: &str| {
        remediate(&daemon, &["approve", "web", "--sha256", digest, "--reason", "patched"])
    };
    let refused = approve(&digest(&rogue.disk));
    assert!(refused.complaint.contains("does not boot from"), "{}", refused.complaint);
    assert_eq!(approve(&new).code, 0);
    await_status(&daemon, &guest, "its start", |one| waits_for(one, "start it"));

    // It starts with something else: what the policy asks is said, and it stays where it is.
    place.lay(&guest, &rogue);
    libvirt.start_domain(&guest).unwrap();
    await_status(&daemon, &guest, "the failure", |one| {
        waits_for(one, "template-registered is not met")
    });
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "isolated", PATIENCE).unwrap();
    libvirt.destroy(&guest).unwrap();
    place.lay(&guest, &patched);
    libvirt.start_domain(&guest).unwrap();
    await_stage(&daemon, &guest, "released");
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
    wait::until("the guest to be heard outside", PATIENCE, || {
        Ok((place.outside(&guest) > 0).then_some(()))
    })
    .unwrap();

    // Whatever it was killed in the middle of: what has happened is on record, and once.
    let happened =
        remediate(&daemon, &["status", "web"]).json["remediations"][0]["history"].clone();
    let happened = happened.as_array().unwrap().clone();
    let records = wait::until("its records", PATIENCE, || {
        let words = ["audit", "list", "--kind", "remediation", "--limit", "0"];
        let all = daemon.ask(&words)?.json["records"].clone();
        let all = all.as_array().cloned().unwrap_or_default();
        Ok((all.len() >= happened.len()).then_some(all))
    })
    .unwrap();
    let said = |list: &[Value], key: &str| -> Vec<String> {
        let mut said: Vec<_> = list.iter().map(|one| one[key].to_string()).collect();
        said.sort();
        said
    };
    assert_eq!(said(&records, "why"), said(&happened, "what"));

    // From now on it is what was approved for it, also for a daemon that begins anew.
    libvirt.destroy(&guest).unwrap();
    daemon.kill().unwrap();
    daemon.run().unwrap();
    libvirt.start_domain(&guest).unwrap();
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
}

/// The file that a rogue VM lacks is put into its image while it is off, and that image is what comes back.
#[test]
fn a_vm_is_patched_offline_and_returns() {
    let place = Place::new();
    let host = place.scene.host();
    let appliance = host.path("appliance");
    offline::initrd(&appliance).unwrap();
    let mut daemon = place.configure_with(&format!(
        "pool = \"sandbox\"\n[[remediation.provisioners]]\nname = \"agent\"\ntimeout = \"5m\"\n\
         [remediation.provisioners.offline]\nkernel = {:?}\ninitrd = {appliance:?}\nmemory_mib = 96\n\
         files = [{{ path = \"/etc/agent\", content = \"enrolled\\n\" }}]\n",
        artefacts::kernel().unwrap(),
    ));
    let libvirt = Libvirt::start(host, Some(&daemon.hook())).unwrap();
    for pool in ["images", "sandbox"] {
        let target = host.path(pool);
        std::fs::create_dir(&target).unwrap();
        let target = target.to_str().unwrap();
        libvirt.virsh(&["pool-create-as", pool, "dir", "--target", target]).unwrap();
    }
    let guest = Guest::new("web", 81);
    let disk = host.path("images").join("web.img");
    Tree::new().unwrap().text("etc/hostname", "web\n").unwrap().disk(&disk).unwrap();
    let domain = guest.with_raw_disk(&place.image, "br0", host.directory(), &disk);
    libvirt.define_as(&guest, &domain).unwrap();
    daemon.run().unwrap();
    libvirt.start_domain(&guest).unwrap();
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "isolated", PATIENCE).unwrap();

    let words = ["start", "web", "--outcome", "patched", "--provisioner", "agent"];
    done(&daemon, &[&words[..], &["--reason", "it has no agent"]].concat());
    let ready = await_status(&daemon, &guest, "its approval", |one| {
        waits_for(one, "has to approve") || waits_for(one, "has failed")
    });
    assert!(waits_for(&ready, "has to approve"), "{ready}");
    assert!(
        ready["steps"].to_string().contains("it says that it has changed something"),
        "{ready}"
    );
    assert!(!disk.exists());
    let moved = std::fs::read_dir(host.path("sandbox")).unwrap().map(|entry| entry.unwrap().path());
    let moved: Vec<_> = moved.collect();
    let [moved] = &moved[..] else { panic!("{moved:?}") };
    assert_eq!(offline::content(moved, "/etc/agent").unwrap(), "enrolled\n");
    done(&daemon, &["approve", "web", "--sha256", &digest(moved), "--reason", "it has its agent"]);
    await_status(&daemon, &guest, "its start", |one| waits_for(one, "start it"));
    libvirt.start_domain(&guest).unwrap();
    await_stage(&daemon, &guest, "released");
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
    wait::until("the guest to be heard outside", PATIENCE, || {
        Ok((place.outside(&guest) > 0).then_some(()))
    })
    .unwrap();
}

/// One command registers what a VM boots from, and every VM of that comes back; one that was aborted is as it was.
#[test]
fn a_template_brings_all_vms_of_its_image_back() {
    let place = Place::new();
    let (rogue, other) = (place.image("rogue"), place.image("other"));
    let mut daemon = place.configure();
    let libvirt = Libvirt::start(place.scene.host(), Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let guests = [Guest::new("one", 61), Guest::new("two", 62), Guest::new("else", 63)];
    let taps = guests.each_ref().map(|guest| {
        let image = if guest.name == "else" { &other } else { &rogue };
        libvirt.define(guest, image, "br0").unwrap();
        libvirt.start_domain(guest).unwrap();
        let tap = libvirt.tap(guest).unwrap();
        daemon.await_port(&tap, "isolated", PATIENCE).unwrap();
        tap
    });
    let [one, _, _] = &guests;

    done(&daemon, &["start", "one", "--outcome", "patched", "--reason", "the wrong way"]);
    await_stage(&daemon, one, "provisioning");
    done(&daemon, &["abort", "one", "--reason", "another way"]);
    await_stage(&daemon, one, "aborted");
    let held = daemon.ask(&["quarantine", "show", "vm", "one"]).unwrap().json;
    assert_eq!((&held["cause"], &held["mode"]), (&"verdict".into(), &"drop".into()), "{held}");

    let words =
        ["start", "one", "--outcome", "template", "--template", "web", "--reason", "reviewed"];
    let started = done(&daemon, &words);
    assert_eq!(started["remediations"].as_array().map(Vec::len), Some(2), "{started}");
    for (guest, tap) in guests.iter().zip(&taps).take(2) {
        await_stage(&daemon, guest, "released");
        daemon.await_port(tap, "granted", PATIENCE).unwrap();
        wait::until("the guest to be heard outside", PATIENCE, || {
            Ok((place.outside(guest) > 0).then_some(()))
        })
        .unwrap();
    }
    daemon.await_port(&taps[2], "isolated", PATIENCE).unwrap();
    let manifest = place.scene.host().path("templates.d/web.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    for part in [&digest(&rogue.disk), "[profile]", "firmware = \"bios\"", "\"reviewed\""] {
        assert!(manifest.contains(part), "{part} is not in:\n{manifest}");
    }
}

/// A VM of an approved template has its name, its MAC and its place; the rogue one is kept, without any.
#[test]
fn a_vm_of_a_template_takes_the_place_of_a_rogue_one() {
    let place = Place::new();
    let rogue = place.image("rogue");
    let mut daemon = place.configure();
    let libvirt = Libvirt::start(place.scene.host(), Some(&daemon.hook())).unwrap();
    // What the template's image is beneath may be read where it is in a pool.
    let pool = place.scene.host().directory().to_str().unwrap();
    libvirt.virsh(&["pool-create-as", "default", "dir", "--target", pool]).unwrap();
    daemon.run().unwrap();
    let guest = Guest::new("web", 71);
    libvirt.define(&guest, &rogue, "br0").unwrap();
    libvirt.start_domain(&guest).unwrap();
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "isolated", PATIENCE).unwrap();

    wait::until("what the guest says", PATIENCE, || {
        let shown = daemon.ask(&["port", "show", &tap])?.json;
        Ok((shown["sightings"].as_array().is_some_and(|all| !all.is_empty())).then_some(()))
    })
    .unwrap();
    let words =
        ["start", "web", "--outcome", "replaced", "--template", "lab", "--reason", "ticket 43"];
    done(&daemon, &words);
    await_status(&daemon, &guest, "the approval", |one| waits_for(one, "has to approve"));
    let looked_at = digest(&rogue.disk);
    let refused =
        remediate(&daemon, &["approve", "web", "--sha256", &looked_at, "--reason", "not ours"]);
    assert!(refused.complaint.contains("name no digest"), "{}", refused.complaint);
    done(&daemon, &["approve", "web", "--reason", "not ours"]);
    let ready = await_status(&daemon, &guest, "its start", |one| {
        waits_for(one, "start it") || one["waits"].to_string().contains("failed")
    });
    assert!(waits_for(&ready, "start it"), "{ready}");
    libvirt.start_domain(&guest).unwrap();
    await_stage(&daemon, &guest, "replaced");
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
    let all = libvirt.virsh(&["list", "--all", "--name"]).unwrap();
    assert!(all.contains("web-rogue-"), "{all}");

    // What it was is kept: what it had said when it was found, and its disk as that was when it was off.
    let kept = |what: &str, name: &str| {
        let cases = std::fs::read_dir(place.scene.host().path("state/evidence")).unwrap();
        let cases: Vec<_> = cases.map(|case| case.unwrap().path()).collect();
        let is_it = |case: &&PathBuf| case.to_str().unwrap().ends_with(&format!("-{what}"));
        let case = cases.iter().find(is_it).unwrap_or_else(|| panic!("{what}: {cases:?}"));
        std::fs::read_to_string(case.join(name)).unwrap()
    };
    let frames = kept("found", "frames.txt");
    let mac = guest.mac.map(|byte| format!("{byte:02x}")).join(":");
    assert!(frames.contains(&mac), "{mac}: {frames}");
    let off: toml::Table = kept("off", "manifest.toml").parse().unwrap();
    let disk = &off["disk"][0];
    let former = digest(&guest.overlay(place.scene.host().directory()));
    assert_eq!(disk["sha256"].as_str(), Some(&former[..]), "{off}");
    assert!(disk.get("unread").is_none(), "{off}");
}
