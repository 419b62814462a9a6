//! An Open vSwitch of a host's own: its database, its daemon, and the kernel's datapath in the host's
//! network namespace.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::wait;

/// How long its daemons may take to get ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where Debian has the daemon, which it reaches by a link in `/etc`.
const DAEMON: [&str; 2] = ["/usr/lib/openvswitch-switch/ovs-vswitchd", "/usr/sbin/ovs-vswitchd"];
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Ends with this value; what it has put into the kernel goes with the host's namespace.
pub struct OpenVSwitch<'a> {
    host: &'a Host,
    daemons: Vec<Child>,
}

/// The daemon of Open vSwitch, if there is one.
pub fn daemon() -> Option<&'static Path> {
    DAEMON.iter().map(Path::new).find(|path| path.exists())
}

impl<'a> OpenVSwitch<'a> {
    pub fn start(host: &'a Host) -> Result<Self> {
        let mut switch = Self { host, daemons: Vec::new() };
        let database = switch.place("conf.db");
        std::fs::create_dir_all(host.path("ovs"))?;
        let mut create = Command::new("ovsdb-tool");
        host.check(create.arg("create").arg(&database).arg(SCHEMA))?;
        let mut server = Command::new("/usr/sbin/ovsdb-server");
        server.arg(database).arg(format!("--remote=punix:{}", switch.socket()));
        switch.spawn(&mut server)?;
        wait::until("the database", PATIENCE, || {
            Ok(switch.place("db.sock").exists().then_some(()))
        })?;
        switch.set(&["--no-wait", "init"])?;
        let path = daemon().context("there is no Open vSwitch")?;
        let mut daemon = Command::new(path);
        switch.spawn(daemon.arg(format!("unix:{}", switch.socket())))?;
        Ok(switch)
    }

    /// `ovs-vsctl …`, which returns when the change is in force.
    pub fn set(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("ovs-vsctl");
        command.args(["--timeout=60", &format!("--db=unix:{}", self.socket())]).args(words);
        self.host.check(&mut command)
    }

    fn spawn(&mut self, command: &mut Command) -> Result<()> {
        let place = self.host.path("ovs");
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
            command.env(variable, &place);
        }
        let name = format!("ovs-{}.log", self.daemons.len());
        let log = std::fs::File::create(self.host.path(&name))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemons.push(self.host.spawn(command)?);
        Ok(())
    }

    fn socket(&self) -> String {
        self.place("db.sock").display().to_string()
    }

    fn place(&self, name: &str) -> PathBuf {
        self.host.path("ovs").join(name)
    }
}

impl Drop for OpenVSwitch<'_> {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            // It has ended by itself when this fails.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
