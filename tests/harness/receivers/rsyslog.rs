use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use super::Certificates;
use crate::host::Host;
use crate::wait;

/// A real rsyslog that takes messages by UDP and by TLS, and writes each kind to a file of its own.
pub struct Rsyslog<'a> {
    host: &'a Host,
    running: Option<Child>,
}

impl<'a> Rsyslog<'a> {
    pub const UDP: u16 = 5514;
    pub const TLS: u16 = 6514;

    /// Writes the configuration; nothing runs yet.
    pub fn configure(host: &'a Host, certificates: &Certificates) -> Result<Self> {
        let directory = host.path("rsyslog");
        std::fs::create_dir_all(&directory)?;
        let (udp, tls) = (Self::UDP, Self::TLS);
        let Certificates { ca, certificate, key } = certificates;
        let (ca, certificate, key) = (ca.display(), certificate.display(), key.display());
        let text = format!(
            r#"
global(workDirectory="{directory}" maxMessageSize="64k" defaultNetstreamDriver="ossl"
       defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{certificate}"
       defaultNetstreamDriverKeyFile="{key}")
module(load="imudp")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="parts" type="string"
         string="%syslogfacility-text%|%syslogseverity-text%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\n")
ruleset(name="udp") {{ action(type="omfile" file="{directory}/udp" template="parts") }}
ruleset(name="tls") {{ action(type="omfile" file="{directory}/tls" template="parts") }}
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="udp")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="tls")
"#,
            directory = directory.display()
        );
        std::fs::write(directory.join("rsyslog.conf"), text)?;
        Ok(Self { host, running: None })
    }

    /// Starts it (again); returns when it listens.
    pub fn start(&mut self) -> Result<()> {
        let file = |name: &str| self.path(name);
        let log = std::fs::File::create(self.host.path("rsyslog.log"))?;
        let mut command = Command::new("rsyslogd");
        command.args(["-n", "-i", "NONE", "-f"]).arg(file("rsyslog.conf"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.running = Some(self.host.spawn(&mut command)?);
        wait::until("rsyslog to listen", Duration::from_secs(20), || {
            let connected = self
                .host
                .network()
                .run(|| Ok(TcpStream::connect(("127.0.0.1", Self::TLS)).is_ok()))?;
            Ok(connected.then_some(()))
        })
    }

    /// The worst that can happen to it.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.running.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// What it has taken by `udp` or `tls`, in order.
    pub fn lines(&self, transport: &str) -> Result<Vec<String>> {
        match std::fs::read_to_string(self.path(transport)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => Ok(other?.lines().map(str::to_owned).collect()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host.path("rsyslog").join(name)
    }
}

impl Drop for Rsyslog<'_> {
    fn drop(&mut self) {
        // The host ends it otherwise.
        let _ = self.kill();
    }
}
