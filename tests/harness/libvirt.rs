//! A libvirtd of our own inside a [`Host`].

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::guest::{Guest, Image};
use crate::host::Host;
use crate::wait;

/// QEMU runs as root, in no cgroup and no namespace of its own, and writes its own log.
const QEMU_CONF: &str = r#"user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"#;

const LIBVIRTD_CONF: &str = r#"auth_unix_ro = "none"
auth_unix_rw = "none"
"#;

/// How long a single virsh command may take under emulation.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running libvirtd. Its domains end with the host.
pub struct Libvirt<'a> {
    host: &'a Host,
    libvirtd: Child,
}

impl<'a> Libvirt<'a> {
    /// Starts it in the host. `hook` is the text of the qemu hook, if there is to be one.
    pub fn start(host: &'a Host, hook: Option<&str>) -> Result<Self> {
        let directory = host.path("libvirt");
        std::fs::create_dir_all(&directory)?;
        write(&directory.join("qemu.conf"), QEMU_CONF, 0o644)?;
        // Two libvirts that migrate to each other must not look like the same host.
        let number = host.number();
        let uuid = format!("host_uuid = \"d37ec707-0000-4000-9000-{number:012x}\"\n");
        write(&directory.join("libvirtd.conf"), &format!("{LIBVIRTD_CONF}{uuid}"), 0o644)?;
        if let Some(hook) = hook {
            write(&directory.join("hook"), hook, 0o755)?;
        }
        // Only inside is /etc/libvirt the host's own copy.
        let put = "set -e; cd \"$1\"; cp qemu.conf libvirtd.conf /etc/libvirt/; \
             rm -rf /etc/libvirt/hooks /etc/libvirt/qemu/networks/autostart \
                 /etc/libvirt/qemu/autostart; \
             mkdir -p /etc/libvirt/hooks; [ ! -e hook ] || cp hook /etc/libvirt/hooks/qemu";
        host.check(Command::new("sh").args(["-c", put, "sh"]).arg(&directory))?;
        host.check(Command::new("hostname").arg(format!("lab{number}")))?;
        let mut libvirt = Self { host, libvirtd: libvirtd(host)? };
        wait::until("libvirtd", Duration::from_secs(20), || libvirt.answers())?;
        Ok(libvirt)
    }

    /// The worst that can happen to it. Its domains live on.
    pub fn kill(&mut self) -> Result<()> {
        self.libvirtd.kill().context("cannot kill libvirtd")?;
        self.libvirtd.wait().context("cannot kill libvirtd")?;
        Ok(())
    }

    /// Starts it again after [`Self::kill`].
    pub fn run(&mut self) -> Result<()> {
        self.libvirtd = libvirtd(self.host)?;
        wait::until("libvirtd", Duration::from_secs(20), || self.answers())
    }

    /// `virsh …`
    pub fn virsh(&self, arguments: &[&str]) -> Result<String> {
        let mut virsh = Command::new("virsh");
        virsh.args(["--quiet", "--connect", "qemu:///system"]).args(arguments);
        self.host.check(&mut virsh)
    }

    /// How this libvirt is reached from outside of its host.
    pub fn uri(&self) -> String {
        let socket = self.host.inside("/run/libvirt/libvirt-sock".as_ref());
        format!("qemu+unix:///system?socket={}", socket.display())
    }

    /// Starts to move the guest to another libvirt, whose host has this address.
    pub fn migrate(
        &self,
        guest: &Guest,
        to: &Self,
        address: Ipv4Addr,
        options: &[&str],
    ) -> Result<Child> {
        // It speaks to both, so it runs in neither host.
        Command::new("virsh")
            .args(["--quiet", "--connect", &self.uri(), "migrate", "--unsafe"])
            .args(options)
            .args([&guest.name, &to.uri(), &format!("tcp://{address}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run virsh")
    }

    /// Defines the guest, with a fresh overlay over the image.
    pub fn define(&self, guest: &Guest, image: &Image, bridge: &str) -> Result<()> {
        let directory = self.host.directory();
        image.overlay(&guest.overlay(directory))?;
        self.define_as(guest, &guest.domain(image, bridge, directory))
    }

    /// Defines the guest by this description, or describes it anew.
    pub fn define_as(&self, guest: &Guest, domain: &str) -> Result<()> {
        let path = self.host.path(&format!("{}.xml", guest.name));
        write(&path, domain, 0o644)?;
        self.virsh(&["define", &path.to_string_lossy()]).map(drop)
    }

    pub fn start_domain(&self, guest: &Guest) -> Result<()> {
        self.virsh(&["start", &guest.name]).map(drop)
    }

    /// Ends it at once, like pulling the plug.
    pub fn destroy(&self, guest: &Guest) -> Result<()> {
        self.virsh(&["destroy", &guest.name]).map(drop)
    }

    /// Writes its memory to a file and ends it.
    pub fn save(&self, guest: &Guest) -> Result<()> {
        let path = self.host.path(&format!("{}.save", guest.name));
        self.virsh(&["save", &guest.name, &path.to_string_lossy()]).map(drop)
    }

    /// Goes on where [`Self::save`] left off.
    pub fn restore(&self, guest: &Guest) -> Result<()> {
        let path = self.host.path(&format!("{}.save", guest.name));
        self.virsh(&["restore", &path.to_string_lossy()]).map(drop)
    }

    /// The tap of its only NIC, while it runs.
    pub fn tap(&self, guest: &Guest) -> Result<String> {
        wait::until(&format!("the tap of {}", guest.name), PATIENCE, || {
            let list = self.virsh(&["domiflist", &guest.name])?;
            let tap = list.split_whitespace().next().filter(|name| *name != "-");
            Ok(tap.map(str::to_owned))
        })
    }

    fn answers(&mut self) -> Result<Option<()>> {
        if let Some(status) = self.libvirtd.try_wait()? {
            let log = std::fs::read_to_string(self.host.path("libvirt/libvirtd.log"))?;
            bail!("libvirtd ended ({status}):\n{log}");
        }
        Ok(self.virsh(&["version"]).ok().map(drop))
    }
}

impl Drop for Libvirt<'_> {
    fn drop(&mut self) {
        // It is part of the host, and ends with it at the latest.
        let _ = self.libvirtd.kill();
        let _ = self.libvirtd.wait();
    }
}

fn libvirtd(host: &Host) -> Result<Child> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(host.path("libvirt/libvirtd.log"))
        .context("cannot write libvirtd's log")?;
    let mut libvirtd = Command::new("libvirtd");
    libvirtd.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    host.spawn(&mut libvirtd).context("cannot start libvirtd (package libvirt-daemon-system)")
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}
