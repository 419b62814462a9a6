//! The receivers of alerts, one file for each kind. A sink holds no state between two deliveries, but for
//! what an Alertmanager makes necessary.

mod alertmanager;
mod email;
mod file;
mod fleet;
mod http;
mod journald;
mod net;
mod secret;
mod syslog;
mod webhook;

use std::{sync::Arc, time::Duration};

use detector_core::model::Severity;
use jiff::Timestamp;

use super::{host::Origin, notice::Notice, text::shown};
use crate::{config::Alerts, fleet::speech::Speech};

/// Why something was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may work later: nobody answers, or not as expected.
    Later(String),
    /// The receiver has understood, and does not want this notice now or ever.
    Refused(String),
}

impl Failure {
    fn later(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Later(shown(&format!("{what}: {error}")))
    }

    pub fn why(&self) -> &str {
        match self {
            Self::Later(why) | Self::Refused(why) => why,
        }
    }
}

/// The name of the sink that the fleet is; none that is configured has it.
pub(crate) const FLEET: &str = "(fleet)";

type Delivered = Result<(), Failure>;

/// One receiver.
#[derive(Debug)]
pub struct Sink {
    pub name: String,
    pub min_severity: Severity,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Journald(journald::Journald),
    File(file::File),
    Syslog(syslog::Syslog),
    Webhook(webhook::Webhook),
    Alertmanager(alertmanager::Alertmanager),
    Email(email::Email),
    Fleet(fleet::Fleet),
}

impl Sink {
    /// Every sink that is configured, and the fleet where the host is of one.
    pub(crate) fn all(config: &Alerts, origin: &Arc<Origin>, fleet: Option<&Speech>) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |name: &String, min_severity, kind| {
            all.push(Self { name: name.clone(), min_severity, kind });
        };
        for keys in &config.journald {
            let kind = Kind::Journald(journald::Journald::new(keys, origin));
            add(&keys.name, keys.min_severity, kind);
        }
        for keys in &config.file {
            add(&keys.name, keys.min_severity, Kind::File(file::File::new(keys, origin)));
        }
        for keys in &config.syslog {
            add(&keys.name, keys.min_severity, Kind::Syslog(syslog::Syslog::new(keys, origin)));
        }
        for keys in &config.webhook {
            add(&keys.name, keys.min_severity, Kind::Webhook(webhook::Webhook::new(keys, origin)));
        }
        for keys in &config.alertmanager {
            let kind = Kind::Alertmanager(alertmanager::Alertmanager::new(keys, origin));
            add(&keys.name, keys.min_severity, kind);
        }
        for keys in &config.email {
            add(&keys.name, keys.min_severity, Kind::Email(email::Email::new(keys, origin)));
        }
        if let Some(speech) = fleet {
            // Whoever looks at all hosts wants to know all.
            let name = FLEET.to_owned();
            add(&name, Severity::Info, Kind::Fleet(fleet::Fleet(speech.clone())));
        }
        all
    }

    /// What kind it is, and where: for people, without secrets.
    pub fn target(&self) -> (&'static str, String) {
        match &self.kind {
            Kind::Journald(sink) => ("journald", sink.target()),
            Kind::File(sink) => ("file", sink.target()),
            Kind::Syslog(sink) => ("syslog", sink.target()),
            Kind::Webhook(sink) => ("webhook", sink.target()),
            Kind::Alertmanager(sink) => ("alertmanager", sink.target()),
            Kind::Email(sink) => ("email", sink.target()),
            Kind::Fleet(sink) => ("fleet", sink.target()),
        }
    }

    /// The most notices of one delivery.
    pub fn batch(&self) -> usize {
        match &self.kind {
            Kind::Webhook(_) | Kind::Alertmanager(_) => 1,
            Kind::Journald(_) | Kind::File(_) | Kind::Syslog(_) | Kind::Fleet(_) => 64,
            Kind::Email(_) => 500,
        }
    }

    /// The least time between two deliveries that succeed.
    pub fn pause(&self) -> Duration {
        match &self.kind {
            Kind::Email(sink) => sink.every,
            // Nobody is told of more than that by one request each.
            Kind::Webhook(_) => Duration::from_millis(50),
            _ => Duration::ZERO,
        }
    }

    /// How often it wants to hear of everything that is open.
    pub fn resend(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Alertmanager(sink) => Some(sink.resend),
            _ => None,
        }
    }

    /// Delivers all of them, in order, or says why not; then some may have arrived.
    pub async fn deliver(&self, notices: &[Notice]) -> Delivered {
        match &self.kind {
            Kind::Journald(sink) => sink.deliver(notices).await,
            Kind::File(sink) => sink.deliver(notices).await,
            Kind::Syslog(sink) => sink.deliver(notices).await,
            Kind::Webhook(sink) => sink.deliver(notices).await,
            Kind::Alertmanager(sink) => sink.deliver(notices).await,
            Kind::Email(sink) => sink.deliver(notices).await,
            Kind::Fleet(sink) => sink.deliver(notices).await,
        }
    }

    /// Says again that these are open, where the receiver wants to hear so.
    pub async fn still_open(&self, open: &[Notice]) -> Delivered {
        match &self.kind {
            Kind::Alertmanager(sink) => sink.still_open(open, Timestamp::now()).await,
            _ => Ok(()),
        }
    }
}

/// Runs what blocks where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::Later(error.to_string())),
    }
}
