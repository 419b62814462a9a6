//! A whole machine under QEMU, without help of the processor: Debian with its systemd, on a disk that outlives a
//! restart. What it sends is recorded from outside, from its first instant on.

mod agent;
mod disk;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::capture::{Capture, Frame};
use crate::frames::{self, Station};
use crate::netns::NetNs;
use crate::packet::PacketSocket;
use crate::{artefacts, run, wait};

pub use agent::Said;
pub use disk::Files;

use agent::Agent;

const QEMU: &str = "qemu-system-x86_64";
/// How long a start may take, on a busy machine.
const START: Duration = Duration::from_secs(180);
/// Between two questions, each of which takes some of its time.
const PAUSE: Duration = Duration::from_millis(300);
/// The end of its only cable that is not its own.
const CABLE: &str = "cable";
/// The MAC of its only NIC.
pub const NIC: &str = "52:54:00:00:00:02";

/// A machine that is on or off. It ends with this value.
pub struct Machine {
    qemu: Option<Child>,
    agent: Agent,
    /// The boot that was seen last.
    boot: String,
    outside: Capture,
    network: NetNs,
    directory: TempDir,
}

impl Machine {
    /// One that is off. At its first start the files are laid over its disk, and what they bring is installed
    /// by this script, which runs there before anything else does.
    pub fn new(files: &Files, install: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("detector-machine-").tempdir()?;
        disk::make(directory.path(), files, install)?;
        let network = NetNs::new()?;
        network.ip(&format!("tuntap add {CABLE} mode tap"))?;
        network.ip(&format!("link set {CABLE} addrgenmode none up"))?;
        let outside = Capture::start(&network, CABLE)?;
        let agent = Agent::at(directory.path().join("agent"));
        Ok(Self { qemu: None, agent, boot: String::new(), outside, network, directory })
    }

    /// Turns it on, with further words on the kernel's command line, and waits until it can be spoken with.
    pub fn start(&mut self, words: &str) -> Result<()> {
        let mut command = self.command(words)?;
        let qemu = run::mortal(&mut command).spawn();
        self.qemu = Some(qemu.with_context(|| format!("cannot run {QEMU}"))?);
        self.await_start()
    }

    /// Starts it anew, as whoever is on it does, and waits until it can be spoken with.
    pub fn restart(&mut self) -> Result<()> {
        // It may be gone before it has answered.
        self.agent.begin("systemctl reboot")?;
        self.await_start()
    }

    /// Has it turn itself off.
    pub fn turn_off(&mut self) -> Result<()> {
        self.agent.begin("systemctl poweroff")?;
        let mut qemu = self.qemu.take().context("the machine is off")?;
        let ended = wait::until("the machine to be off", START, || Ok(qemu.try_wait()?));
        if ended.is_err() {
            self.qemu = Some(qemu);
        }
        ended.map(drop)
    }

    /// Runs a command of its shell, to its end.
    pub fn run(&mut self, command: &str) -> Result<Said> {
        self.agent.run(command)
    }

    /// The same of one that succeeds; what it printed.
    pub fn check(&mut self, command: &str) -> Result<String> {
        let said = self.run(command)?;
        if said.code != 0 {
            bail!("{command} ({}): {}{}", said.code, said.out, said.complaint);
        }
        Ok(said.out)
    }

    /// Waits until a command succeeds; what it printed.
    pub fn await_success(&mut self, command: &str, patience: Duration) -> Result<String> {
        wait::until(&format!("{command} to succeed"), patience, || {
            let said = self.run(command)?;
            if said.code != 0 {
                wait::pause(PAUSE);
            }
            Ok((said.code == 0).then_some(said.out))
        })
    }

    /// Everything that it has sent, since it was made.
    pub fn outside(&self) -> Result<Vec<Frame>> {
        self.outside.frames()
    }

    /// Waits for a frame that it sends, of those after the first `seen`.
    pub fn await_frame(
        &self,
        what: &str,
        seen: usize,
        patience: Duration,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Frame> {
        wait::until(&format!("{what} outside"), patience, || {
            Ok(self.outside()?.into_iter().skip(seen).find(|frame| wanted(frame)))
        })
    }

    /// Waits until somebody with that address answers a neighbour, which asks again and again.
    pub fn await_answer(&self, from: Station, patience: Duration) -> Result<Frame> {
        let socket = PacketSocket::open(&self.network, CABLE)?;
        let asks = Station::number(250);
        let seen = self.outside()?.len();
        let answers = |frame: &Frame| {
            frame.source() == Some(from.mac) && frame.bytes.get(..6) == Some(&asks.mac)
        };
        wait::until("an answer of the machine", patience, || {
            socket.send(&frames::arp(asks, from.ip))?;
            wait::pause(Duration::from_millis(100));
            Ok(self.outside()?.into_iter().skip(seen).find(answers))
        })
    }

    /// What the kernel and systemd have said.
    pub fn console(&self) -> String {
        let text = std::fs::read(self.console_path()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn console_path(&self) -> PathBuf {
        self.directory.path().join("console")
    }

    fn await_start(&mut self) -> Result<()> {
        let before = std::mem::take(&mut self.boot);
        let Self { agent, qemu, .. } = self;
        self.boot = wait::until("the machine to start", START, || {
            if let Some(status) = qemu.as_mut().context("the machine is off")?.try_wait()? {
                bail!("{QEMU} ended ({status})");
            }
            let boot = agent.greet().filter(|boot| *boot != before);
            if boot.is_none() {
                wait::pause(PAUSE);
            }
            Ok(boot)
        })?;
        Ok(())
    }

    fn command(&self, words: &str) -> Result<Command> {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let mut command = self.network.command(QEMU);
        command.args(["-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "1024"]);
        command.args(["-display", "none", "-nodefaults", "-no-user-config"]);
        command.arg("-kernel").arg(artefacts::kernel()?).args(["-initrd", &path("initrd")]);
        // On a busy machine the kernel would take its clocks for broken.
        const CLOCKS: &str = "no_timer_check tsc=unstable";
        let words = format!("console=ttyS0 quiet mitigations=off {CLOCKS} {words}");
        command.args(["-append", &words]);
        let log = File::options().append(true).create(true).open(self.console_path())?;
        command.args(["-serial", "stdio"]);
        for (name, format) in [("disk", "qcow2"), ("files", "raw")] {
            let file = path(name);
            let drive = format!("id={name},file={file},format={format},if=none,cache=unsafe");
            command.args(["-drive", &drive]);
        }
        // The last one is of no use to the machine itself.
        command.args(["-blockdev", "driver=null-co,node-name=blank,size=65536,read-zeroes=on"]);
        for drive in ["disk", "files", "blank"] {
            command.args(["-device", &format!("virtio-blk-pci,drive={drive}")]);
        }
        command.args(["-device", "virtio-serial"]);
        let agent = format!("socket,id=agent,path={},server=on,wait=off", path("agent"));
        command.args(["-chardev", &agent]);
        command.args(["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]);
        let cable = format!("tap,id=cable,ifname={CABLE},script=no,downscript=no");
        command.args(["-netdev", &cable]);
        // Without a ROM its firmware sends nothing.
        command.args(["-device", &format!("virtio-net-pci,netdev=cable,romfile=,mac={NIC}")]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what the machine has said\n{}", self.console());
            if self.qemu.is_some()
                && let Ok(said) = self.run("journalctl --boot --no-pager | tail -n 150")
            {
                eprintln!("--- its journal\n{}", said.out);
            }
        }
        if let Some(mut qemu) = self.qemu.take() {
            // It has ended by itself when this fails.
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
    }
}
