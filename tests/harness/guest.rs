//! A guest: an image, a kernel, an initial file system, and the domain that libvirt makes of them.

mod agent;

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use detector_guest::Mac;
use sha2::{Digest, Sha256};

use crate::cpio::Archive;
use crate::{artefacts, run};

/// In the order they have to be loaded.
const MODULES: [&str; 9] = [
    "failover",
    "net_failover",
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_net",
    "virtio_console",
];

/// What a VM boots from: three files that a template registers by digest.
#[derive(Clone)]
pub struct Image {
    /// A qcow2 base image, which domains lay an overlay over.
    pub disk: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

/// One VM.
#[derive(Clone)]
pub struct Guest {
    pub name: String,
    pub uuid: String,
    pub mac: Mac,
    pub ip: Ipv4Addr,
    /// A second MAC that it starts to send from after the first phase.
    pub foreign: Option<Mac>,
    /// Beats of the first phase.
    pub first: u32,
    /// Milliseconds between two beats.
    pub pace_ms: u32,
    /// Further words for its kernel's command line.
    pub more: String,
}

impl Image {
    /// Makes an image. The marking goes into the base image, so that two of them differ in it.
    pub fn make(directory: &Path, name: &str, marking: &str) -> Result<Self> {
        let raw = directory.join(format!("{name}.raw"));
        let disk = directory.join(format!("{name}.qcow2"));
        let mut file = std::fs::File::create(&raw)?;
        file.write_all(marking.as_bytes())?;
        file.set_len(1 << 20)?;
        qemu_img(&["convert", "-O", "qcow2"], &[&raw, &disk])?;
        std::fs::remove_file(raw)?;
        let initrd = directory.join(format!("{name}.initrd"));
        std::fs::write(&initrd, initial_file_system()?.finish())?;
        Ok(Self { disk, kernel: artefacts::kernel()?, initrd })
    }

    /// The same with QEMU's guest agent in its initial file system, which `det.agent=real` starts.
    pub fn with_agent(self) -> Result<Self> {
        let mut archive = initial_file_system()?;
        agent::add(&mut archive)?;
        std::fs::write(&self.initrd, archive.finish())?;
        Ok(self)
    }

    /// The manifest of a template that is this image.
    pub fn manifest(&self, id: &str) -> Result<String> {
        let mut text = format!("id = {id:?}\nversion = \"1\"\nstatus = \"approved\"\n");
        let media = [("disk", &self.disk), ("kernel", &self.kernel), ("initrd", &self.initrd)];
        for (role, path) in media {
            let digest = digest(path)?;
            text.push_str(&format!("[[image]]\nrole = \"{role}\"\nsha256 = \"{digest}\"\n"));
        }
        Ok(text)
    }

    /// The same, which says where its files are, so that VMs can be made from it.
    pub fn placed_manifest(&self, id: &str) -> Result<String> {
        let mut text = self.manifest(id)?;
        let Self { disk, kernel, initrd, .. } = self;
        for (role, path) in [("disk", disk), ("kernel", kernel), ("initrd", initrd)] {
            let line = format!("role = {role:?}\n");
            text = text.replace(&line, &format!("{line}path = {:?}\n", path.display().to_string()));
        }
        Ok(text)
    }

    /// A writable overlay for one VM.
    pub fn overlay(&self, path: &Path) -> Result<()> {
        let base = self.disk.to_string_lossy();
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &base], &[path])
    }
}

impl Guest {
    /// A VM whose MAC, address and UUID end with the number.
    pub fn new(name: &str, number: u8) -> Self {
        Self {
            name: name.to_owned(),
            uuid: format!("d37ec707-0000-4000-8000-0000000000{number:02x}"),
            mac: [0x52, 0x54, 0, 0, 0, number],
            ip: Ipv4Addr::new(192, 0, 2, number),
            foreign: None,
            first: 300,
            pace_ms: 5,
            more: String::new(),
        }
    }

    /// The domain, with its overlay and its serial console in `directory`.
    pub fn domain(&self, image: &Image, bridge: &str, directory: &Path) -> String {
        let mut cmdline = format!(
            "console=ttyS0 quiet panic=-1 tsc=unstable det.ip={} det.first={} det.pace_ms={} {}",
            self.ip, self.first, self.pace_ms, self.more
        );
        if let Some(foreign) = self.foreign {
            cmdline.push_str(&format!(" det.foreign={}", hex(foreign)));
        }
        let Self { name, uuid, .. } = self;
        let mac = hex(self.mac);
        let disk = self.overlay(directory).display().to_string();
        let console = self.console(directory).display().to_string();
        let kernel = image.kernel.display();
        let initrd = image.initrd.display();
        format!(
            "<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='bridge'>
      <mac address='{mac}'/>
      <source bridge='{bridge}'/>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>
    <serial type='file'><source path='{console}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"
        )
    }

    /// The domain with a raw disk in place of its overlay.
    pub fn with_raw_disk(
        &self,
        image: &Image,
        bridge: &str,
        directory: &Path,
        disk: &Path,
    ) -> String {
        let overlay = self.overlay(directory).display().to_string();
        let domain = self.domain(image, bridge, directory);
        domain.replace(&overlay, &disk.to_string_lossy()).replace("type='qcow2'", "type='raw'")
    }

    /// Where its disk is.
    pub fn overlay(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.qcow2", self.name))
    }

    /// Where its serial console is written to.
    pub fn console(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.console", self.name))
    }
}

/// Frames that the guest itself has received from `source`, by its latest word on its console.
/// `None` until it has said something.
pub fn heard(console: &str, source: Mac) -> Option<u64> {
    let line = console.lines().rev().find(|line| line.starts_with("guest: sent="))?;
    let key = format!("{}=", hex(source));
    let count = line.split(' ').find_map(|word| word.strip_prefix(&key));
    Some(count.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}

/// A MAC as people write it.
pub fn hex(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn initial_file_system() -> Result<Archive> {
    let read = |path: PathBuf| {
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut archive = Archive::default();
    archive.executable("init", &read(artefacts::guest_init()?)?).directory("modules");
    for (number, name) in MODULES.iter().enumerate() {
        let module = read(artefacts::module(name)?)?;
        archive.file(&format!("modules/{number:02}-{name}.ko"), &module);
    }
    Ok(archive)
}

fn digest(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn qemu_img(words: &[&str], paths: &[&Path]) -> Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(words).args(paths);
    let result = command.output();
    run::checked(&command, result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_counts() {
        let mac = [0x52, 0x54, 0, 0, 0, 1];
        assert_eq!(heard("guest: up\n", mac), None);
        let console = "guest: sent=1 heard\r\nguest: sent=9 heard 52:54:00:00:00:01=7\r\n";
        assert_eq!(heard(console, mac), Some(7));
        assert_eq!(heard(console, [0; 6]), Some(0));
    }
}
