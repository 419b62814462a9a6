//! The stage: a host with a bridge and an uplink, somebody who listens outside, and images of which
//! one is registered.

use std::time::Duration;

use anyhow::{Context, Result};
use detector_guest::Mac;

use crate::capture::Capture;
use crate::daemon::{Daemon, Settings};
use crate::ears::Ears;
use crate::flow::Flow;
use crate::guest::{self, Guest, Image};
use crate::host::Host;
use crate::libvirt::Libvirt;
use crate::netns::NetNs;
use crate::offline::{self, Tree};
use crate::{artefacts, link, wait};

/// A guest under emulation needs seconds to boot.
pub const BOOT: Duration = Duration::from_secs(60);

pub struct Stage<'a> {
    pub host: &'a Host,
    /// Registered as a template.
    pub approved: Image,
    /// Registered nowhere.
    pub unregistered: Image,
    /// Long-running, approved: the neighbour that must never notice anything.
    pub web: Guest,
    /// Approved, started later.
    pub app: Guest,
    /// Of the unregistered image.
    pub rogue: Guest,
    /// Approved, but sends under a second MAC.
    pub nested: Guest,
    /// Of no image that is registered, and with a disk that is a file system.
    pub lost: Guest,
    /// Of the unregistered image, like the rogue one.
    pub old: Guest,
    outside: Capture,
    ears: Ears,
}

impl<'a> Stage<'a> {
    pub fn build(host: &'a Host) -> Result<Self> {
        let network = host.network();
        link::bridge(network, "br0")?;
        network.ip("address add 192.0.2.1/24 dev br0")?;
        let far = NetNs::new()?;
        link::cable((network, "up0"), (&far, "far0"))?;
        link::enslave(network, "up0", "br0")?;
        let outside = Capture::start(&far, "far0")?;
        let ears = Ears::open(network, detector_guest::PORT)?;
        Ok(Self {
            host,
            approved: Image::make(host.directory(), "debian-lab", "an image that was reviewed")?,
            unregistered: Image::make(host.directory(), "found", "an image from somewhere")?,
            web: Guest::new("web1", 11),
            app: Guest::new("app1", 12),
            rogue: Guest { first: 100, ..Guest::new("rogue", 66) },
            nested: Guest {
                foreign: Some([0x02, 0xbd, 0, 0, 0, 1]),
                first: 100,
                ..Guest::new("nested", 13)
            },
            lost: Guest::new("lost1", 67),
            old: Guest::new("old1", 68),
            outside,
            ears,
        })
    }

    /// The daemon, and a libvirt that asks it before each start.
    pub fn start(&self) -> Result<(Daemon<'a>, Libvirt<'a>)> {
        let settings = Settings {
            evidence: "digest",
            libvirt: true,
            templates: vec![(
                "debian-lab.toml".to_owned(),
                self.approved.placed_manifest("debian-lab")?,
            )],
            more: format!("unknown_port_grace = \"200ms\"\n{}", self.remediation()?),
            ..Settings::default()
        };
        let mut daemon = Daemon::configure(self.host, &settings)?;
        let libvirt = Libvirt::start(self.host, Some(&daemon.hook()))?;
        // Where the images of templates are, those of others, and those that are changed.
        for (pool, place) in [("default", ""), ("images", "images"), ("sandbox", "sandbox")] {
            let target = self.host.path(place);
            std::fs::create_dir_all(&target)?;
            let target = target.to_string_lossy();
            libvirt.virsh(&["pool-create-as", pool, "dir", "--target", &target])?;
        }
        daemon.run()?;
        Ok((daemon, libvirt))
    }

    /// The section of the configuration: what a VM that comes back is to have. No guest hears that it is to shut down.
    fn remediation(&self) -> Result<String> {
        let appliance = self.host.path("appliance");
        offline::initrd(&appliance)?;
        Ok(format!(
            "[remediation]\nshutdown_grace = \"0s\"\npool = \"sandbox\"\n[[remediation.provisioners]]\n\
             name = \"agent\"\n[remediation.provisioners.offline]\nkernel = {:?}\ninitrd = {appliance:?}\n\
             memory_mib = 96\nfiles = [{{ path = \"/etc/agent\", content = \"enrolled\\n\" }}]\n",
            artefacts::kernel()?,
        ))
    }

    /// Defines the VM whose disk is a file system.
    pub fn define_lost(&self, libvirt: &Libvirt<'_>) -> Result<()> {
        let disk = self.host.path("images").join("lost1.img");
        Tree::new()?.text("etc/hostname", "lost1\n")?.disk(&disk)?;
        libvirt.define_as(
            &self.lost,
            &self.lost.with_raw_disk(&self.unregistered, "br0", self.host.directory(), &disk),
        )
    }

    /// What arrived outside from this MAC.
    pub fn outside(&self, mac: Mac) -> Result<Flow> {
        Ok(Flow::of(&self.outside.frames()?, mac))
    }

    /// Every frame that arrived outside.
    pub fn outside_frames(&self) -> Result<Vec<crate::capture::Frame>> {
        self.outside.frames()
    }

    /// Waits for beats of the guest outside, so many after the last one there is.
    pub fn await_beats(&self, guest: &Guest, more: u64) -> Result<u64> {
        let goal = self.outside(guest.mac)?.last_seq().map_or(more, |seq| seq + more);
        wait::until(&format!("{more} more beats of {}", guest.name), BOOT, || {
            Ok(self.outside(guest.mac)?.last_seq().filter(|seq| *seq >= goal))
        })
    }

    /// Waits until the guest says on its console that its first phase is over.
    pub fn await_first_phase(&self, guest: &Guest) -> Result<()> {
        wait::until(&format!("{} to send", guest.name), BOOT, || {
            Ok(self.console(guest)?.contains("first phase sent=").then_some(()))
        })
    }

    /// Frames from the source that `listener` has received itself, by what it says from now on.
    pub fn heard_by(&self, listener: &Guest, source: Mac) -> Result<u64> {
        let said = self.console(listener)?.len();
        wait::until(&format!("{} to say what it heard", listener.name), BOOT, || {
            let console = self.console(listener)?;
            // Whole lines only, and none that was begun before.
            let new = console.get(said..).unwrap_or_default();
            let (start, end) = (new.find('\n'), new.rfind('\n'));
            let lines = start.zip(end).and_then(|(start, end)| new.get(start..end));
            Ok(guest::heard(lines.unwrap_or_default().trim_start(), source))
        })
    }

    /// Beats from the guest's address that the host itself has received.
    pub fn heard_by_host(&self, guest: &Guest) -> Result<u64> {
        self.ears.heard(guest.ip.into())
    }

    /// What the guest has said.
    pub fn console(&self, guest: &Guest) -> Result<String> {
        match std::fs::read(guest.console(self.host.directory())) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).context("cannot read a console"),
        }
    }
}
