//! What a VM was is kept, of one that runs and of one that is off.

use std::fs;

use detector::remediate::evidence::verify;
use detector_tests::guest::Guest;
use detector_tests::hands::{Answer, Order};

use super::{Lab, URI};

#[test]
fn a_vm_is_kept_as_it_was_found() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    let files = lab.define(&libvirt, &guest);
    let digests = files.digests();
    let keep = |id: &str| {
        let domain = guest.uuid.parse().unwrap();
        let state = lab.host.path("state");
        lab.ask(&Order::Evidence { id: id.to_owned(), uri: URI.to_owned(), domain, state })
    };
    let Answer::Kept(place, manifest) = keep("7-off") else { panic!() };
    assert_eq!(verify(&place).unwrap().manifest, manifest);
    let found: Vec<_> =
        manifest.disks.iter().map(|disk| disk.sha256.unwrap().to_string()).collect();
    assert_eq!(found, digests);
    let xml = fs::read_to_string(place.join("domain.xml")).unwrap();
    assert!(xml.contains(&guest.uuid) && xml.contains("<name>web</name>"), "{xml}");
    assert!(fs::read_to_string(place.join("frames.txt")).unwrap().contains("192.0.2.1"));
    libvirt.start_domain(&guest).unwrap();
    let Answer::Kept(place, manifest) = keep("7-on") else { panic!() };
    assert!(manifest.disks.iter().all(|disk| disk.sha256.is_none() && disk.unread.is_some()));
    let xml = fs::read_to_string(place.join("domain.xml")).unwrap();
    assert!(xml.contains("vnet"), "as it runs: {xml}");
    // Asked for again it is what was kept first.
    let Answer::Kept(again, first) = keep("7-off") else { panic!() };
    assert!(again.ends_with("7-off") && first.disks[0].sha256.is_some());
}
