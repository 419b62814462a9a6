//! Where VMs are known from, with real libvirts: what they say late, twice, or not at all.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "sources/agents.rs"]
mod agents;
#[path = "sources/containers.rs"]
mod containers;
#[path = "sources/hanging.rs"]
mod hanging;
#[path = "sources/networks.rs"]
mod networks;
#[path = "sources/several.rs"]
mod several;
#[path = "sources/snapshots.rs"]
mod snapshots;
#[path = "sources/volumes.rs"]
mod volumes;

use std::time::Duration;

use detector_tests::capture::Capture;
use detector_tests::daemon::Settings;
use detector_tests::flow::Flow;
use detector_tests::guest::{Guest, Image};
use detector_tests::host::Host;
use detector_tests::netns::NetNs;
use detector_tests::{link, wait};

/// A guest under emulation needs seconds to boot, and a libvirt that hangs is noticed after fifteen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host with a bridge, an image of which there is a template, and somebody beyond the uplink who listens.
struct Lab {
    outside: Capture,
    _far: NetNs,
    image: Image,
    host: Host,
}

impl Lab {
    fn new() -> Self {
        Self::with(Ok)
    }

    /// The same, where guests boot what becomes of the image.
    fn with(change: impl FnOnce(Image) -> anyhow::Result<Image>) -> Self {
        Self::on(Host::new().unwrap(), change)
    }

    fn on(host: Host, change: impl FnOnce(Image) -> anyhow::Result<Image>) -> Self {
        let far = NetNs::new().unwrap();
        link::bridge(host.network(), "br0").unwrap();
        link::cable((host.network(), "up0"), (&far, "far0")).unwrap();
        link::enslave(host.network(), "up0", "br0").unwrap();
        let outside = Capture::start(&far, "far0").unwrap();
        let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
        let image = change(image).unwrap();
        Self { outside, _far: far, image, host }
    }

    fn settings(&self) -> Settings {
        Settings {
            evidence: "digest",
            libvirt: true,
            templates: vec![("lab.toml".to_owned(), self.image.manifest("lab").unwrap())],
            ..Settings::default()
        }
    }

    /// Waits until the guest has been heard outside with more frames than before.
    fn await_more(&self, guest: &Guest) {
        let last =
            || -> anyhow::Result<_> { Ok(Flow::of(&self.outside.frames()?, guest.mac).last_seq()) };
        let before = last().unwrap();
        wait::until(&format!("more of {}", guest.name), PATIENCE, || {
            Ok(last()?.filter(|seq| Some(*seq) > before))
        })
        .unwrap();
    }
}
