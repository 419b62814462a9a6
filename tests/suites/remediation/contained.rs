//! VMs with a way out that no guard can be on.

use super::*;

/// A network stack in QEMU speaks for it.
const USER: &str = "<interface type='user'><mac address='52:54:00:00:01:5b'/><model type='virtio'/>\
                    <rom enabled='no'/></interface>";

fn state(libvirt: &Libvirt<'_>, guest: &Guest) -> String {
    libvirt.virsh(&["domstate", &guest.name]).unwrap().trim().to_owned()
}

fn happened(daemon: &Daemon<'_>, guest: &Guest) -> String {
    remediate(daemon, &["status", &guest.name]).json["remediations"][0]["history"].to_string()
}

/// Its quarantine holds at its ports only: so it does not run, however often somebody resumes it.
#[test]
fn a_vm_with_a_way_out_without_a_guard_does_not_run_on() {
    let place = Place::new();
    let directory = place.scene.host().directory();
    let rogue = place.image("rogue");
    let mut daemon = place.configure();
    let libvirt = Libvirt::start(place.scene.host(), Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let [alone, mixed] = [Guest::new("alone", 91), Guest::new("mixed", 92)];
    for guest in [&alone, &mixed] {
        place.lay(guest, &rogue);
        let domain = guest.domain(&rogue, "br0", directory);
        let (before, rest) = domain.split_once("<interface").unwrap();
        let (bridged, after) = rest.split_once("</interface>").unwrap();
        let bridged = format!("<interface{bridged}</interface>");
        let kept = if guest.name == "mixed" { bridged.as_str() } else { "" };
        libvirt.define_as(guest, &format!("{before}{kept}{USER}{after}")).unwrap();
        libvirt.start_domain(guest).unwrap();
        daemon.await_finding("rogue-vm", &guest.name, PATIENCE).unwrap();
        assert_eq!(state(&libvirt, guest), "running");
    }
    let tap = libvirt.tap(&mixed).unwrap();
    daemon.await_port(&tap, "isolated", PATIENCE).unwrap();

    for (guest, sandboxed) in [(&alone, false), (&mixed, true)] {
        let replaced = ["plan", &guest.name, "--outcome", "replaced", "--template", "lab"];
        let refused = remediate(&daemon, &replaced);
        assert!(refused.complaint.contains("on no network"), "{}", refused.complaint);
        let plan = done(&daemon, &["plan", &guest.name])["steps"].to_string();
        let planned = |step: &str| plan.contains(&format!("\"{step}\""));
        assert_eq!((planned("contain"), planned("sandbox")), (true, sandboxed), "{plan}");
        done(&daemon, &["start", &guest.name, "--outcome", "patched", "--reason", "ticket 44"]);
        await_status(&daemon, guest, "the approval", |one| one["stage"] == "provisioning");
        assert_eq!(state(&libvirt, guest), "paused", "{}", guest.name);
    }
    for guest in [&alone, &mixed] {
        libvirt.virsh(&["resume", &guest.name]).unwrap();
    }
    for guest in [&alone, &mixed] {
        wait::until("it to be suspended again", PATIENCE, || {
            let again = happened(&daemon, guest).contains("somebody has had it run on");
            Ok((again && state(&libvirt, guest) == "paused").then_some(()))
        })
        .unwrap();
    }
}
