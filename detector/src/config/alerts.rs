//! The section `alerts`: who is told of findings, and how.

mod check;
mod text;

use std::{path::PathBuf, time::Duration};

use detector_core::model::Severity;
use serde::Deserialize;

use super::text::duration;
pub(super) use check::check;
pub use text::{Address, Url};
use text::{address, file, mailbox, mailboxes, optional_file, sink_name, url};

/// Where the receivers' certificates are anchored when nobody says otherwise (Debian's bundle).
const CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The section `alerts`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// What the outbox may take on the disk, in MiB: 1 to 4096.
    pub outbox_mib: u32,
    /// How long a receiver may take nothing before that is a finding.
    #[serde(deserialize_with = "duration")]
    pub overdue: Duration,
    /// How long one delivery may take.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// How long after the daemon's start a finding counts as over that is not seen any more.
    #[serde(deserialize_with = "duration")]
    pub settle: Duration,
    pub journald: Vec<Journald>,
    pub file: Vec<FileSink>,
    pub syslog: Vec<Syslog>,
    pub webhook: Vec<Webhook>,
    pub alertmanager: Vec<Alertmanager>,
    pub email: Vec<Email>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            outbox_mib: 64,
            overdue: Duration::from_secs(5 * 60),
            timeout: Duration::from_secs(30),
            settle: Duration::from_secs(30),
            journald: Vec::new(),
            file: Vec::new(),
            syslog: Vec::new(),
            webhook: Vec::new(),
            alertmanager: Vec::new(),
            email: Vec::new(),
        }
    }
}

impl Alerts {
    /// The name of every sink, in the order of the kinds.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let journald = self.journald.iter().map(|sink| &sink.name);
        let file = self.file.iter().map(|sink| &sink.name);
        let syslog = self.syslog.iter().map(|sink| &sink.name);
        let webhook = self.webhook.iter().map(|sink| &sink.name);
        let alertmanager = self.alertmanager.iter().map(|sink| &sink.name);
        let email = self.email.iter().map(|sink| &sink.name);
        let all = journald.chain(file).chain(syslog).chain(webhook).chain(alertmanager);
        all.chain(email).map(String::as_str)
    }
}

/// `tls = { … }` of a sink: who vouches for the receiver, and for this host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificates that vouch for the receiver's, in PEM.
    #[serde(deserialize_with = "file")]
    pub ca: PathBuf,
    /// What this host shows the receiver, with its key; both or neither.
    #[serde(deserialize_with = "optional_file")]
    pub certificate: Option<PathBuf>,
    #[serde(deserialize_with = "optional_file")]
    pub key: Option<PathBuf>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: CA.into(), certificate: None, key: None }
    }
}

/// `[[alerts.journald]]`: systemd's journal on this host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journald {
    #[serde(deserialize_with = "sink_name")]
    pub name: String,
    #[serde(default = "everything")]
    pub min_severity: Severity,
    #[serde(default = "journal_socket", deserialize_with = "file")]
    pub socket: PathBuf,
}

/// `[[alerts.file]]`: OCSF events as lines of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    #[serde(deserialize_with = "sink_name")]
    pub name: String,
    #[serde(default = "everything")]
    pub min_severity: Severity,
    #[serde(deserialize_with = "file")]
    pub path: PathBuf,
    /// A file that has grown larger gives way to a new one.
    #[serde(default = "file_mib")]
    pub max_mib: u32,
    /// Files that are kept besides the current one.
    #[serde(default = "kept_files")]
    pub keep: u32,
}

/// `[[alerts.syslog]]`: RFC 5424 over UDP (RFC 5426) or TLS (RFC 5425).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    #[serde(deserialize_with = "sink_name")]
    pub name: String,
    #[serde(default = "low")]
    pub min_severity: Severity,
    #[serde(deserialize_with = "address")]
    pub address: Address,
    pub transport: SyslogTransport,
    #[serde(default)]
    pub format: SyslogFormat,
    #[serde(default)]
    pub facility: Facility,
    #[serde(default)]
    pub tls: Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyslogTransport {
    Udp,
    Tls,
}

/// What the message part holds; structured data are there in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyslogFormat {
    /// A sentence.
    #[default]
    Text,
    /// The OCSF event.
    Ocsf,
}

/// The facilities of RFC 5424 that fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Facility {
    User = 1,
    Daemon = 3,
    Auth = 4,
    #[default]
    Authpriv = 10,
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    Local7 = 23,
}

/// `[[alerts.webhook]]`: one OCSF event a request, signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    #[serde(deserialize_with = "sink_name")]
    pub name: String,
    #[serde(default = "low")]
    pub min_severity: Severity,
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// The file with the secret that requests are signed with.
    #[serde(deserialize_with = "file")]
    pub secret_file: PathBuf,
    #[serde(default, deserialize_with = "optional_file")]
    pub authorization_file: Option<PathBuf>,
    #[serde(default)]
    pub tls: Tls,
}

/// `[[alerts.alertmanager]]`: the API v2 of a Prometheus Alertmanager.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    #[serde(deserialize_with = "sink_name")]
    pub name: String,
    #[serde(default = "low")]
    pub min_severity: Severity,
    /// Without `/api/v2`.
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// How often what is open is sent again; it ends there after four times as long.
    #[serde(default = "minute", deserialize_with = "duration")]
    pub resend: Duration,
    /// The file with the value of the header `Authorization`, such as `Bearer …`.
    #[serde(default, deserialize_with = "optional_file")]
    pub authorization_file: Option<PathBuf>,
    #[serde(default)]
    pub tls: Tls,
}

/// `[[alerts.email]]`: mail by SMTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    #[serde(deserialize_with = "sink_name")]
    pub name: String,
    #[serde(default = "high")]
    pub min_severity: Severity,
    #[serde(deserialize_with = "address")]
    pub server: Address,
    pub security: MailSecurity,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default, deserialize_with = "optional_file")]
    pub password_file: Option<PathBuf>,
    #[serde(deserialize_with = "mailbox")]
    pub from: String,
    #[serde(deserialize_with = "mailboxes")]
    pub to: Vec<String>,
    /// The least time between two mails: what comes meanwhile is one digest.
    #[serde(default = "minute", deserialize_with = "duration")]
    pub every: Duration,
    #[serde(default)]
    pub tls: Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailSecurity {
    /// TLS from the first byte.
    Tls,
    /// TLS, or nothing is sent.
    Starttls,
    /// In the clear, such as to a relay on this host.
    None,
}

fn everything() -> Severity {
    Severity::Info
}

fn low() -> Severity {
    Severity::Low
}

fn high() -> Severity {
    Severity::High
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn journal_socket() -> PathBuf {
    "/run/systemd/journal/socket".into()
}

fn file_mib() -> u32 {
    64
}

fn kept_files() -> u32 {
    4
}

#[cfg(test)]
mod tests;
