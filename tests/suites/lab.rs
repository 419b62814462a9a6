//! The lab proves itself: without the daemon nothing stands between a guest and the wire, so every
//! frame has to arrive. If it does not, no other suite's count means anything.

use std::time::Duration;

use detector_tests::capture::Capture;
use detector_tests::flow::Flow;
use detector_tests::guest::{Guest, Image};
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::netns::NetNs;
use detector_tests::{link, wait};

/// A guest under emulation needs seconds to boot.
const BOOT: Duration = Duration::from_secs(60);

#[test]
fn every_frame_of_a_guest_is_counted_and_restore_is_announced() {
    let host = Host::new().unwrap();
    let outside = NetNs::new().unwrap();
    link::bridge(host.network(), "br0").unwrap();
    link::cable((host.network(), "up0"), (&outside, "far0")).unwrap();
    link::enslave(host.network(), "up0", "br0").unwrap();
    let capture = Capture::start(&outside, "far0").unwrap();

    let image = Image::make(host.directory(), "base", "a lab image").unwrap();
    let guest = Guest::new("plain", 11);
    let libvirt = Libvirt::start(&host, None).unwrap();
    libvirt.define(&guest, &image, "br0").unwrap();
    libvirt.start_domain(&guest).unwrap();

    let flow = || Flow::of(&capture.frames().unwrap(), guest.mac);
    let phase = wait::until("the first phase", BOOT, || Ok(flow().first_phase())).unwrap();
    assert!(phase.is_whole(), "{phase:?}");
    assert!(phase.others > 0, "the guest's kernel speaks for itself: {phase:?}");

    libvirt.save(&guest).unwrap();
    let before = flow();
    let saved_at = before.last_seq().unwrap();
    assert_eq!(before.announcements(), 0);
    libvirt.restore(&guest).unwrap();
    wait::until("the guest to go on", BOOT, || {
        Ok(flow().last_seq().filter(|seq| *seq > saved_at + 300))
    })
    .unwrap();
    let after = flow();
    println!(
        "{phase:?}; after restore: {} announcements, {:?}",
        after.announcements(),
        after.stream(0, saved_at + 300)
    );
    assert!(after.announcements() >= 5, "{}", after.announcements());
}
