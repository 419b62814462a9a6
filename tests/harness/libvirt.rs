//! A libvirtd of our own inside a [`Host`], or two of them.

pub mod proxy;

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

/// What a second libvirtd does before it starts: its files are its own, but for what is in the host's
/// directory.
const BESIDE: &str = r#"
set -e
cp -a /etc/libvirt "$1/etc"
for place in /run /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mount -t tmpfs tmpfs $place
done
mount --bind "$1/etc" /etc/libvirt
rm -f /etc/libvirt/qemu/*.xml
"#;

/// Puts the configuration in place, and nothing else of the machine's.
const PUT: &str = r#"
set -e
cd "$1"
cp qemu.conf libvirtd.conf /etc/libvirt/
rm -rf /etc/libvirt/hooks /etc/libvirt/qemu/networks/autostart /etc/libvirt/qemu/autostart
mkdir -p /etc/libvirt/hooks /run/lock
[ ! -e hook ] || cp hook /etc/libvirt/hooks/qemu
[ ! -e hook-lxc ] || cp hook-lxc /etc/libvirt/hooks/lxc
"#;

/// A running libvirtd. Its domains end with the host.
pub struct Libvirt<'a> {
    host: &'a Host,
    /// Where its files are; the second one's socket is there, too.
    directory: PathBuf,
    second: bool,
    libvirtd: Child,
}

impl<'a> Libvirt<'a> {
    /// Starts it in the host. `hook` is the text of the qemu hook, if there is to be one.
    pub fn start(host: &'a Host, hook: Option<&str>) -> Result<Self> {
        Self::start_in(host, host.path("libvirt"), false, hook)
    }

    /// Starts a second one in the same host, of which the first knows nothing. They share the network.
    pub fn start_beside(host: &'a Host, hook: Option<&str>) -> Result<Self> {
        Self::start_in(host, host.path("libvirt-2"), true, hook)
    }

    fn start_in(
        host: &'a Host,
        directory: PathBuf,
        second: bool,
        hook: Option<&str>,
    ) -> Result<Self> {
        std::fs::create_dir_all(&directory)?;
        write(&directory.join("qemu.conf"), QEMU_CONF, 0o644)?;
        // Two libvirts that migrate to each other must not look like the same host.
        let number = host.number();
        let node = if second { 0x9001 } else { 0x9000 };
        let mut conf =
            format!("{LIBVIRTD_CONF}host_uuid = \"d37ec707-0000-4000-{node:x}-{number:012x}\"\n");
        if second {
            conf.push_str(&format!("unix_sock_dir = {directory:?}\n"));
        }
        write(&directory.join("libvirtd.conf"), &conf, 0o644)?;
        if let Some(hook) = hook {
            write(&directory.join("hook"), hook, 0o755)?;
        }
        host.check(Command::new("hostname").arg(format!("lab{number}")))?;
        let libvirtd = launch(host, &directory, second)?;
        let mut libvirt = Self { host, directory, second, libvirtd };
        libvirt.await_answer()?;
        Ok(libvirt)
    }

    /// Puts the text of a hook of its lxc driver in place, for its next start.
    pub fn hook_lxc(&self, text: &str) -> Result<()> {
        write(&self.directory.join("hook-lxc"), text, 0o755)
    }

    /// Stops it in mid-air; [`Self::resume`] lets it go on. Its domains run on.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// The worst that can happen to it. Its domains run on.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.libvirtd.wait()?;
        Ok(())
    }

    /// Starts it again after its death, with what its domains are by now.
    pub fn restart(&mut self) -> Result<()> {
        self.libvirtd = launch(self.host, &self.directory, self.second)?;
        self.await_answer()
    }

    /// `virsh …`
    pub fn virsh(&self, arguments: &[&str]) -> Result<String> {
        self.virsh_at(&self.local_uri(), arguments)
    }

    /// The same by another of its drivers.
    pub fn virsh_at(&self, uri: &str, arguments: &[&str]) -> Result<String> {
        let mut virsh = Command::new("virsh");
        virsh.args(["--quiet", "--connect", uri]).args(arguments);
        self.host.check(&mut virsh)
    }

    /// How this libvirt is reached inside of its host.
    pub fn local_uri(&self) -> String {
        if self.second {
            format!("qemu+unix:///system?socket={}", self.socket().display())
        } else {
            "qemu:///system".to_owned()
        }
    }

    /// How this libvirt is reached from outside of its host.
    pub fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket().display())
    }

    /// Its socket, as it is called outside of its host.
    pub fn socket(&self) -> PathBuf {
        if self.second {
            self.directory.join("libvirt-sock")
        } else {
            self.host.inside("/run/libvirt/libvirt-sock".as_ref())
        }
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

    fn await_answer(&mut self) -> Result<()> {
        wait::until("libvirtd", Duration::from_secs(20), || {
            if let Some(status) = self.libvirtd.try_wait()? {
                let log = std::fs::read_to_string(self.directory.join("libvirtd.log"))?;
                bail!("libvirtd ended ({status}):\n{log}");
            }
            Ok(self.virsh(&["version"]).ok().map(drop))
        })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.libvirtd.id())?), signal)
            .context("cannot signal libvirtd")
    }
}

/// Runs libvirtd. Only inside is /etc/libvirt the host's own copy.
fn launch(host: &Host, directory: &Path, second: bool) -> Result<Child> {
    let log =
        std::fs::File::options().append(true).create(true).open(directory.join("libvirtd.log"))?;
    let (unshare, prepare) = if second { ("unshare", BESIDE) } else { ("env", "") };
    let script = format!("{prepare}\n{PUT}\nexec libvirtd");
    let mut command = Command::new(unshare);
    if second {
        command.args(["--mount", "--propagation", "private"]);
    }
    command.args(["sh", "-c", &script, "sh"]).arg(directory);
    host.spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
        .context("cannot start libvirtd (package libvirt-daemon-system)")
}

impl Drop for Libvirt<'_> {
    fn drop(&mut self) {
        // It is part of the host, and ends with it at the latest.
        let _ = self.libvirtd.kill();
        let _ = self.libvirtd.wait();
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}
