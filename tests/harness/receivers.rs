//! Receivers of alerts: a real rsyslog and a real Alertmanager inside a host, and ones of our own that
//! answer as they are told.

mod alertmanager;
mod http;
mod journald;
mod mail;
mod rsyslog;

pub use alertmanager::Alertmanager;
pub use http::{Answer, Request, Web};
pub use journald::Journald;
pub use mail::{MailServer, Reception};
pub use rsyslog::Rsyslog;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::host::Host;

/// A certificate of 127.0.0.1, and of whoever vouches for it.
pub struct Certificates {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them, with `openssl`.
    pub fn make(host: &Host) -> Result<Self> {
        const MAKE: &str = r#"
set -e
cd "$1"
curve='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $curve -days 2 -subj /CN=lab -keyout ca.key -out ca.pem
openssl req $curve -subj /CN=receiver -keyout key.pem -out request.pem
printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > extensions
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
    -extfile extensions -out certificate.pem
"#;
        let directory = host.path("certificates");
        std::fs::create_dir_all(&directory)?;
        host.check(Command::new("sh").args(["-c", MAKE, "make"]).arg(&directory))?;
        let file = |name: &str| directory.join(name);
        let [ca, certificate, key] = ["ca.pem", "certificate.pem", "key.pem"].map(file);
        Ok(Self { ca, certificate, key })
    }
}
