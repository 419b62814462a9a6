//! Several libvirts at once.

use detector_tests::daemon::Daemon;
use detector_tests::guest::Guest;
use detector_tests::libvirt::Libvirt;
use detector_tests::wait;

use super::{Lab, PATIENCE};

/// Two libvirts that know nothing of each other, on one bridge.
#[test]
fn each_says_what_is_its_own_and_the_stricter_holds_for_what_is_both() {
    let lab = Lab::new();
    let mut settings = lab.settings();
    let socket = lab.host.path("libvirt-2/libvirt-sock");
    let second_uri = format!("qemu+unix:///system?socket={}", socket.display());
    settings.uris = vec!["qemu:///system".to_owned(), second_uri.clone()];
    let mut daemon = Daemon::configure(&lab.host, &settings).unwrap();
    let first = Libvirt::start(&lab.host, Some(&daemon.hook())).unwrap();
    let hook = daemon.hook_of(&second_uri);
    let second = Libvirt::start_beside(&lab.host, Some(&hook)).unwrap();
    assert_eq!(second.local_uri(), second_uri);
    daemon.run().unwrap();

    let both = [Guest::new("first", 41), Guest::new("second", 42)];
    let taps: Vec<_> = [&first, &second]
        .iter()
        .zip(&both)
        .map(|(libvirt, guest)| {
            libvirt.define(guest, &lab.image, "br0").unwrap();
            libvirt.start_domain(guest).unwrap();
            let tap = libvirt.tap(guest).unwrap();
            daemon.await_port(&tap, "granted", PATIENCE).unwrap();
            tap
        })
        .collect();
    for (guest, uri) in both.iter().zip([&first.local_uri(), &second_uri]) {
        let shown = daemon.ask(&["vm", "show", &guest.name]).unwrap();
        assert_eq!(shown.json["source"], uri.as_str(), "{shown:?}");
    }

    // The second one runs a VM with the UUID of the first one's, and another NIC: nobody is believed.
    let claimed = Guest { uuid: both[0].uuid.clone(), ..Guest::new("claimed", 99) };
    second.define(&claimed, &lab.image, "br0").unwrap();
    second.start_domain(&claimed).unwrap();
    daemon.await_finding("conflict", &claimed.uuid, PATIENCE).unwrap();
    let status = || -> anyhow::Result<_> {
        Ok(daemon.ask(&["port", "show", &taps[0]])?.json["status"].clone())
    };
    let lost = wait::until("the loss of the grant", PATIENCE, || {
        Ok(Some(status()?).filter(|status| *status != "granted"))
    });
    println!("its port is {} meanwhile", lost.unwrap());
    second.destroy(&claimed).unwrap();
    second.virsh(&["undefine", &claimed.name]).unwrap();
    daemon.await_port(&taps[0], "granted", PATIENCE).unwrap();
    daemon.await_no_finding("conflict", PATIENCE).unwrap();

    // One is lost, the other goes on.
    second.freeze().unwrap();
    let third = Guest::new("third", 43);
    first.define(&third, &lab.image, "br0").unwrap();
    first.start_domain(&third).unwrap();
    let tap = first.tap(&third).unwrap();
    daemon.await_finding("source-lost", "libvirt-2", PATIENCE).unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
    daemon.await_port(&taps[1], "granted", PATIENCE).unwrap();
    lab.await_more(&both[1]);
    second.resume().unwrap();
    daemon.await_no_finding("source-lost", PATIENCE).unwrap();
    assert!(!daemon.findings().unwrap().iter().any(|line| {
        let finding = &line["finding"];
        finding["kind"] == "source-lost" && finding.to_string().contains("qemu:///system")
    }));
}
