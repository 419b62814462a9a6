//! A host of our own: network, mount, process, UTS and IPC namespaces, held by a process that ends
//! when we do and takes everything inside with it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

use crate::cgroups::Cgroups;
use crate::netns::{NetNs, on_a_thread};
use crate::run;

/// What the first process of the host does. `/etc/libvirt` is a copy, everything that services write
/// to is in memory, and no cgroup can be reached but those that were made for the host. `cat` then waits for our end of the pipe to close;
/// with SIGCHLD ignored, orphans that are left to it vanish by themselves.
const INIT: &str = r#"
set -e
[ -z "$1" ] || umount -R /sys/fs/cgroup
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
for place in /run /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    [ ! -d $place ] || mount -t tmpfs tmpfs $place
done
if [ -d /etc/libvirt ]; then
    mount -t tmpfs tmpfs /run
    cp -a /etc/libvirt /run/etc-libvirt
    mount --bind /run/etc-libvirt /etc/libvirt
fi
case $1 in
    v2) mount -t cgroup2 cgroup2 /sys/fs/cgroup ;;
    v1)
        mount -t tmpfs tmpfs /sys/fs/cgroup
        while IFS=: read -r _ controllers _; do
            place=/sys/fs/cgroup/${controllers#name=}
            mkdir -p "$place"
            case $controllers in
                '') mkdir "$place/unified" && mount -t cgroup2 cgroup2 "$place/unified" ;;
                name=*) mount -t cgroup -o "none,$controllers" cgroup "$place" ;;
                *) mount -t cgroup -o "$controllers" cgroup "$place" ;;
            esac
        done < /proc/self/cgroup ;;
esac
ip link set lo up
echo ready
exec env --ignore-signal=CHLD cat
"#;

/// Namespaces that a process of the host is in, by their name below `/proc/…/ns`; without groups of its own
/// the last one is the machine's.
const NAMESPACES: [(&str, CloneFlags); 5] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
];

/// A host of our own. Its bpffs, `/run` and `/etc/libvirt` are private; the rest of the file system
/// is the machine's.
pub struct Host {
    holder: Child,
    init: u32,
    namespaces: Vec<(File, CloneFlags)>,
    processes: File,
    network: NetNs,
    directory: TempDir,
    /// Gone after everything that was in them.
    cgroups: Option<Cgroups>,
}

impl Host {
    /// Needs root.
    pub fn new() -> Result<Self> {
        Self::start(None)
    }

    /// A host whose services can make control groups: beneath groups of its own, which look like all that
    /// there are.
    pub fn with_cgroups() -> Result<Self> {
        Self::start(Some(Cgroups::new()?))
    }

    fn start(cgroups: Option<Cgroups>) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("only root can make a host of namespaces: run this test as root");
        }
        let directory = tempfile::Builder::new().prefix("detector-lab-").tempdir()?;
        let mut unshare = Command::new("unshare");
        let kind = match &cgroups {
            None => "",
            Some(groups) => {
                let doors = groups.doors();
                // SAFETY: only write(2) is called between fork and exec, on descriptors that `groups` keeps
                // open.
                unsafe { unshare.pre_exec(move || Cgroups::enter(&doors)) };
                unshare.arg("--cgroup");
                groups.kind()
            }
        };
        let mut holder = unshare
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "--propagation", "private", "sh", "-c", INIT, "sh", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare (package util-linux)")?;
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            let status = holder.wait()?;
            bail!("the host's first process did not get ready: {status}");
        }
        let init = only_child(holder.id())?;
        let open = |name: &str| {
            let path = format!("/proc/{init}/ns/{name}");
            File::open(&path).with_context(|| format!("cannot open {path}"))
        };
        let namespaces = NAMESPACES
            .iter()
            .map(|(name, flag)| Ok((open(name)?, *flag)))
            .collect::<Result<Vec<_>>>()?;
        let network = NetNs::open(&format!("/proc/{init}/ns/net"))?;
        let processes = open("pid")?;
        Ok(Self { holder, init, namespaces, processes, network, directory, cgroups })
    }

    /// A directory of this host, which goes with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in [`Self::directory`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A number that no other host of this machine has.
    pub fn number(&self) -> u32 {
        self.init
    }

    /// How a path of the host's own file system is called outside of it.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").unwrap_or(path);
        Path::new(&format!("/proc/{}/root", self.init)).join(path)
    }

    /// The host's network namespace.
    pub fn network(&self) -> &NetNs {
        &self.network
    }

    /// The command by which a person enters the host.
    pub fn how_to_enter(&self) -> String {
        format!("nsenter --target {} --all", self.init)
    }

    /// The command by which a person's program is in the host's network, and otherwise where it is.
    pub fn how_to_reach(&self) -> String {
        format!("nsenter --target {} --net", self.init)
    }

    /// Starts a program inside.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let inside: Vec<_> =
            self.namespaces.iter().map(|(file, flag)| (file.as_raw_fd(), *flag)).collect();
        let doors = self.cgroups.as_ref().map_or_else(Vec::new, Cgroups::doors);
        // SAFETY: only write(2) and setns are called between fork and exec, on descriptors that `self` keeps
        // open.
        unsafe {
            command.pre_exec(move || {
                Cgroups::enter(&doors)?;
                for (descriptor, flag) in &inside {
                    setns(BorrowedFd::borrow_raw(*descriptor), *flag)?;
                }
                Ok(())
            });
        }
        on_a_thread(|| {
            // It is the children of this thread that the process namespace applies to.
            setns(&self.processes, CloneFlags::CLONE_NEWPID)
                .context("cannot enter the host's process namespace")?;
            command.spawn().with_context(|| format!("cannot run {}", run::line(command)))
        })
    }

    /// Takes away what is pinned, as a restart of the host does. No daemon may run.
    pub fn forget_pins(&self) -> Result<()> {
        self.check(Command::new("rm").args(["-r", "/sys/fs/bpf/detector"])).map(drop)
    }

    /// Runs a program inside to its end.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(self.spawn(command)?.wait_with_output()?)
    }

    /// Runs a program inside; its output, or an error with what it complained about.
    pub fn check(&self, command: &mut Command) -> Result<String> {
        let output = self.output(command)?;
        run::checked(command, Ok(output))
    }
}

impl Host {
    /// Prints the ends of all logs and consoles, which are gone with the host.
    pub fn print_logs(&self) {
        const BYTES: usize = 3000;
        let directories = [self.directory.path().to_path_buf(), self.path("libvirt")];
        let entries = directories.iter().filter_map(|d| std::fs::read_dir(d).ok()).flatten();
        let mut paths: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        paths.sort();
        for path in paths {
            if path.extension().is_some_and(|e| e == "console" || e == "log") {
                let text = std::fs::read(&path).unwrap_or_default();
                let end = String::from_utf8_lossy(&text[text.len().saturating_sub(BYTES)..]);
                eprintln!("--- {}\n{end}", path.display());
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        // The end of the first process is the end of all others in its namespace.
        drop(self.holder.stdin.take());
        // Nothing is left to be done when this fails: the holder has ended already.
        let _ = self.holder.wait();
    }
}

pub(crate) fn only_child(parent: u32) -> Result<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.trim().parse().with_context(|| format!("{path} holds {text:?}, not one process"))
}
