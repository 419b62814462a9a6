//! A Debian with its service manager, in namespaces: a clean system of its own that ends with its value.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cgroups::Cgroups;
use crate::host::only_child;
use crate::netns::NetNs;
use crate::{artefacts, run, wait};

/// How long a start may take, and anything that the service manager is asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts what is written over the clean root, which stays as it is, gives it the kernel's file systems, and becomes
/// its service manager.
const BOOT: &str = r#"
set -e
kind=$1 base=$2 place=$3
mount -t tmpfs tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=$base,upperdir=$place/upper,workdir=$place/work" overlay "$place/root"
cd "$place/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t bpf bpf sys/fs/bpf
case $kind in
    v2) mount -t cgroup2 cgroup2 sys/fs/cgroup ;;
    v1)
        mount -t tmpfs tmpfs sys/fs/cgroup
        mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
        mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
        mount -t cgroup2 cgroup2 sys/fs/cgroup/unified ;;
esac
mount -t tmpfs tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts
for node in null zero full random urandom tty; do
    touch dev/$node
    mount --bind /dev/$node dev/$node
done
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs run
echo ready
pivot_root . mnt
cd /
umount --lazy /mnt
exec env -i container=namespaces /lib/systemd/systemd --log-target=null > /dev/null 2>&1
"#;

/// A running system.
pub struct Debian {
    holder: Child,
    init: u32,
    network: NetNs,
    directory: TempDir,
    /// Gone after everything that was in them.
    _cgroups: Cgroups,
}

impl Debian {
    /// Needs root, and what `cargo xtask test --suite packages` makes.
    pub fn boot() -> Result<Self> {
        let cgroups = Cgroups::new()?;
        let directory = tempfile::Builder::new().prefix("detector-debian-").tempdir()?;
        let mut unshare = Command::new("setpriv");
        let doors = cgroups.doors();
        // SAFETY: only write(2) is called between fork and exec, on descriptors that `cgroups` keeps open.
        unsafe { unshare.pre_exec(move || Cgroups::enter(&doors)) };
        // It ends with whoever made it, however that ends, and its first process with it.
        unshare
            .args(["--pdeathsig", "KILL", "unshare"])
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork"])
            .args(["--kill-child", "--mount-proc", "--propagation", "private"])
            .args(["sh", "-c", BOOT, "sh", cgroups.kind()])
            .arg(artefacts::clean_root()?)
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut holder = unshare.spawn().context("cannot run unshare (package util-linux)")?;
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            bail!("the system's first process did not get ready: {}", holder.wait()?);
        }
        let init = only_child(holder.id())?;
        let network = NetNs::open(&format!("/proc/{init}/ns/net"))?;
        let system = Self { holder, init, network, directory, _cgroups: cgroups };
        let state = || system.output("systemctl is-system-running");
        wait::until("the service manager", PATIENCE, || {
            Ok((state()?.stdout.trim_ascii() == b"running").then_some(()))
        })?;
        Ok(system)
    }

    /// What the shell there says to this; an error with everything that was said when it fails.
    pub fn check(&self, line: &str) -> Result<String> {
        let mut command = self.command(line);
        let result = command.output();
        run::checked(&command, result)
    }

    /// What became of this in the shell there.
    pub fn output(&self, line: &str) -> Result<Output> {
        Ok(self.command(line).stdin(Stdio::null()).output()?)
    }

    /// How a path there is called outside of it.
    pub fn inside(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init)).join(path.trim_start_matches('/'))
    }

    /// Its network namespace.
    pub fn network(&self) -> &NetNs {
        &self.network
    }

    /// A directory outside of it, which goes with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string(), "--all", "--root", "--"])
            .args(["env", "-i", "-C", "/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "sh", "-c", line]);
        command
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.output(
                "systemctl --no-pager --full status detector detector-monitor; journalctl --no-pager --lines=40",
            );
            let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("{}", said.unwrap_or_default());
        }
        // Its first process ends with it, and everything else with that.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
