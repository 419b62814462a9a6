//! What guests say of themselves.

use detector_tests::daemon::Daemon;
use detector_tests::guest::{Guest, Image};
use detector_tests::libvirt::Libvirt;
use detector_tests::{artefacts, wait};

use super::{Lab, PATIENCE};

const CHANNEL: &str = "<channel type='unix'>
    <target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices>";

/// One guest has QEMU's own agent, and a host name that does harm; nobody waits for the others, and nothing
/// of what they send is taken.
#[test]
fn a_guest_says_what_it_is_and_hostile_ones_hold_up_nobody() {
    let lab = Lab::with(Image::with_agent);
    let daemon = Daemon::start(&lab.host, &lab.settings()).unwrap();
    let libvirt = Libvirt::start(&lab.host, None).unwrap();
    let kinds = ["silent", "endless", "garbage", "huge", "real"];
    let guests: Vec<_> = kinds
        .iter()
        .zip(71..)
        .map(|(kind, number)| {
            let mut guest = Guest::new(kind, number);
            guest.more = format!("det.agent={kind}");
            guest.pace_ms = 100;
            lab.image.overlay(&guest.overlay(lab.host.directory())).unwrap();
            let xml = guest.domain(&lab.image, "br0", lab.host.directory());
            let path = lab.host.path(&format!("{kind}.xml"));
            std::fs::write(&path, xml.replace("</devices>", CHANNEL)).unwrap();
            libvirt.virsh(&["define", path.to_str().unwrap()]).unwrap();
            libvirt.start_domain(&guest).unwrap();
            guest
        })
        .collect();
    let claims = |name: &str| -> anyhow::Result<_> {
        Ok(daemon.ask(&["vm", "show", name])?.json["guest"].clone())
    };
    let said = wait::until("what QEMU's agent says", PATIENCE * 2, || {
        Ok(Some(claims("real")?).filter(serde_json::Value::is_object))
    })
    .unwrap();
    let expect = serde_json::json!({
        "os_id": "debian", "os_version": "12", "kernel": artefacts::kernel_release().unwrap(),
        "hostname": "lab\u{1b}[31m", "users": ["root"],
    });
    assert_eq!(said, expect);
    let shown = daemon.show(&["vm", "show", "real"]).unwrap();
    assert!(shown.contains("The guest says") && shown.contains("debian 12"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "it is escaped: {shown:?}");
    // All have spoken by now, as far as they do.
    for guest in &guests[..4] {
        wait::until(&format!("{} to be there", guest.name), PATIENCE, || {
            let console = std::fs::read_to_string(guest.console(lab.host.directory()))?;
            Ok(console.contains("guest: agent").then_some(()))
        })
        .unwrap();
    }
    // Those that answer have been asked, and nothing of what they have said was taken.
    for guest in guests.iter().filter(|guest| ["garbage", "huge"].contains(&guest.name.as_str())) {
        wait::until(&format!("{} to have been asked", guest.name), PATIENCE, || {
            let console = std::fs::read_to_string(guest.console(lab.host.directory()))?;
            Ok(console.contains("guest: agent asked for its system").then_some(()))
        })
        .unwrap();
    }
    wait::pause(std::time::Duration::from_secs(2));
    for guest in &guests {
        let tap = libvirt.tap(guest).unwrap();
        daemon.await_port(&tap, "granted", PATIENCE).unwrap();
        let told = claims(&guest.name).unwrap();
        assert_eq!(told.is_object(), guest.name == "real", "{}: {told}", guest.name);
    }
    libvirt.destroy(&guests[4]).unwrap();
    wait::until("silence", PATIENCE, || Ok(claims("real")?.is_null().then_some(()))).unwrap();
}
