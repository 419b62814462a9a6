//! What a VM descends from, with a real libvirt: what is changed beneath a running VM counts.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "lineage/boot.rs"]
mod boot;
#[path = "lineage/own.rs"]
mod own;

use std::os::unix::fs::FileExt;
use std::time::Duration;

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::guest::{Guest, Image};
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::{link, wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// A host whose libvirt asks the daemon, with an image of which there is a template.
fn settings(image: &Image) -> Settings {
    Settings {
        evidence: "digest",
        libvirt: true,
        templates: vec![("lab.toml".to_owned(), image.manifest("lab").unwrap())],
        ..Settings::default()
    }
}

fn host() -> Host {
    let host = Host::new().unwrap();
    link::bridge(host.network(), "br0").unwrap();
    host
}

#[test]
fn a_chain_that_changes_beneath_a_running_vm_is_judged_again() {
    let host = host();
    let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
    let mut daemon = Daemon::configure(&host, &settings(&image)).unwrap();
    let libvirt = Libvirt::start(&host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let guests = [Guest::new("rewritten", 21), Guest::new("rebased", 22), Guest::new("quiet", 23)];
    let foreign = Image::make(host.directory(), "foreign", "an image from somewhere").unwrap();
    let own = Image { disk: host.path("own.qcow2"), ..image.clone() };
    std::fs::copy(&image.disk, &own.disk).unwrap();
    let [rewritten, rebased, quiet] = &guests;
    libvirt.define(rewritten, &own, "br0").unwrap();
    libvirt.define(rebased, &image, "br0").unwrap();
    libvirt.define(quiet, &image, "br0").unwrap();
    let taps = guests.each_ref().map(|guest| {
        libvirt.start_domain(guest).unwrap();
        let tap = libvirt.tap(guest).unwrap();
        daemon.await_port(&tap, "granted", PATIENCE).unwrap();
        tap
    });

    // In place, the times set back.
    let base = std::fs::File::options().write(true).open(&own.disk).unwrap();
    let times = base.metadata().unwrap().modified().unwrap();
    base.write_all_at(b"evil", base.metadata().unwrap().len() - 512).unwrap();
    base.set_modified(times).unwrap();
    daemon.await_port(&taps[0], "isolated", PATIENCE).unwrap();

    // As `qemu-img rebase -u` does, which the hypervisor's lock would keep from it.
    let overlay = std::fs::File::options()
        .read(true)
        .write(true)
        .open(rebased.overlay(host.directory()))
        .unwrap();
    let mut header = [0; 20];
    overlay.read_exact_at(&mut header, 0).unwrap();
    let place = u64::from_be_bytes(header[8..16].try_into().unwrap());
    let name = foreign.disk.to_str().unwrap();
    let length = u32::try_from(name.len()).unwrap();
    overlay.write_all_at(name.as_bytes(), place).unwrap();
    overlay.write_all_at(&length.to_be_bytes(), 16).unwrap();
    daemon.await_port(&taps[1], "isolated", PATIENCE).unwrap();

    for guest in [rewritten, rebased] {
        for kind in ["medium-changed", "rogue-vm"] {
            daemon.await_finding(kind, &guest.name, PATIENCE).unwrap();
        }
    }
    daemon.await_port(&taps[2], "granted", PATIENCE).unwrap();
}

/// A full copy is proven by its digest once, and by its certificate of birth from then on.
#[test]
fn a_full_copy_has_a_certificate_of_birth() {
    let host = host();
    let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
    let settings = Settings { evidence: "certificate", ..settings(&image) };
    let mut daemon = Daemon::configure(&host, &settings).unwrap();
    let libvirt = Libvirt::start(&host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let guest = Guest::new("copy", 24);
    let disk = guest.overlay(host.directory());
    libvirt.define(&guest, &image, "br0").unwrap();
    std::fs::remove_file(&disk).unwrap();
    std::fs::copy(&image.disk, &disk).unwrap();
    let write = |text: &str| {
        let file = std::fs::File::options().write(true).open(&disk).unwrap();
        file.write_all_at(text.as_bytes(), file.metadata().unwrap().len() - 512).unwrap();
    };
    let run = |status: &str| {
        libvirt.start_domain(&guest).unwrap();
        daemon.await_port(&libvirt.tap(&guest).unwrap(), status, PATIENCE).unwrap();
    };
    let end = || {
        libvirt.destroy(&guest).unwrap();
        wait::until("the end to be recorded", PATIENCE, || {
            let held = std::fs::read_to_string(host.path("state/certificates.json"))?;
            Ok((!held.contains("\"rest\": null")).then_some(()))
        })
        .unwrap();
    };
    run("granted");
    // What the guest would write.
    write("first run");
    end();
    run("granted");
    write("second run");
    end();
    run("granted");
    let shown = daemon.show(&["vm", "show", "copy"]).unwrap();
    assert!(shown.contains("certificate of birth"), "{shown}");
    end();
    // Somebody else, while it is off.
    write("somebody");
    run("isolated");
}

/// The digests are right, and the machine around them is not what the template's profile asks for.
#[test]
fn a_device_outside_the_profile_is_refused_until_the_profile_allows_it() {
    const KINDS: &str =
        r#"["disk", "interface", "serial", "console", "input", "memballoon", "audio""#;
    let host = host();
    let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
    let manifest = image.manifest("lab").unwrap();
    let (head, images) = manifest.split_at(manifest.find("[[image]]").unwrap());
    let with_profile =
        |profile: &str| format!("{head}[profile]\nfirmware = \"bios\"\n{profile}\n{images}");
    let strict = with_profile(&format!("shared_directories = false\ndevices = {KINDS}]"));
    let mut settings = settings(&image);
    settings.templates = vec![("lab.toml".to_owned(), strict)];
    let mut daemon = Daemon::configure(&host, &settings).unwrap();
    let libvirt = Libvirt::start(&host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let [plain, sharing] = [Guest::new("plain", 25), Guest::new("sharing", 26)];
    libvirt.define(&plain, &image, "br0").unwrap();
    libvirt.define(&sharing, &image, "br0").unwrap();
    let share = format!(
        "<filesystem type='mount'><source dir='{}'/><target dir='data'/></filesystem></devices>",
        host.directory().display()
    );
    let domain = sharing.domain(&image, "br0", host.directory());
    libvirt.define_as(&sharing, &domain.replace("</devices>", &share)).unwrap();
    let [plain, sharing] = [plain, sharing].map(|guest| {
        libvirt.start_domain(&guest).unwrap();
        libvirt.tap(&guest).unwrap()
    });
    daemon.await_port(&plain, "granted", PATIENCE).unwrap();
    daemon.await_port(&sharing, "isolated", PATIENCE).unwrap();
    let decided = daemon.ask(&["policy", "explain", "sharing"]).unwrap().json;
    let rules = ["profile-shared-directories", "profile-devices"];
    assert_eq!(decided["rules"], serde_json::json!(rules), "{decided}");
    let said = daemon.show(&["explain", "sharing"]).unwrap();
    for words in ["asks for no directory of the host", "the VM has filesystem", "in the profile"] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }

    let wider = format!("shared_directories = true\ndevices = {KINDS}, \"filesystem\"]");
    daemon.write_template("lab.toml", &with_profile(&wider)).unwrap();
    // Each quarantine by a verdict is lifted by a person, who sees it judged anew.
    let released = daemon.ask(&["quarantine", "release", "vm", "sharing"]).unwrap();
    assert_eq!(released.code, 0, "{released:?}");
    daemon.await_port(&sharing, "granted", PATIENCE).unwrap();
}
