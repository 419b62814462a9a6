use std::{path::PathBuf, time::Duration};

use detector_core::fleet::Name;
use serde::Deserialize;

use super::{
    check::{Checked, Complaint, absolute, ensure},
    text::duration,
};
use crate::{api::Role, registry::Trust};

/// The fleet that this host is of; none where no server is named.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FleetKeys {
    /// Servers of NATS, any of which will do.
    pub servers: Vec<String>,
    /// What the fleet is called.
    pub name: Option<Name>,
    /// What this host is called there, as it was enrolled.
    pub host: Option<Name>,
    pub credentials: PathBuf,
    /// Who signs certificates of the servers; whom the machine trusts where it is left out.
    pub authority: Option<PathBuf>,
    /// Keys of minisign by which bundles are signed; without one none is taken.
    pub trusted_keys: Vec<String>,
    /// What commands may do here.
    pub role: Role,
    /// How often the state of the host is looked at.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
}

impl Default for FleetKeys {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            name: None,
            host: None,
            credentials: "/etc/detector/fleet.creds".into(),
            authority: None,
            trusted_keys: Vec::new(),
            role: Role::View,
            interval: Duration::from_secs(5),
        }
    }
}

impl FleetKeys {
    /// The fleet and this host in it; `None` where it is of none.
    pub fn names(&self) -> Option<(&Name, &Name)> {
        let named = self.name.as_ref().zip(self.host.as_ref());
        named.filter(|_| !self.servers.is_empty())
    }
}

const MOST_SERVERS: usize = 16;
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);

pub(super) fn check(fleet: &FleetKeys) -> Checked {
    const SERVERS: &[&str] = &["fleet", "servers"];
    ensure(fleet.servers.len() <= MOST_SERVERS, SERVERS, || {
        format!("{} servers; expected at most {MOST_SERVERS}", fleet.servers.len())
    })?;
    let plain = fleet.servers.iter().find(|url| !url.starts_with("tls://"));
    ensure(plain.is_none(), SERVERS, || {
        format!(
            "{:?} is none that is spoken to; expected one such as \"tls://nats.example.org:4222\"",
            plain.map_or("", String::as_str)
        )
    })?;
    ensure(fleet.servers.is_empty() || fleet.names().is_some(), &["fleet", "servers"], || {
        "a host of a fleet has names; expected fleet.name and fleet.host, as it was enrolled"
            .to_owned()
    })?;
    absolute(&["fleet", "credentials"], &fleet.credentials)?;
    if let Some(path) = &fleet.authority {
        absolute(&["fleet", "authority"], path)?;
    }
    Trust::new(&fleet.trusted_keys, true)
        .map_err(|message| Complaint { key: &["fleet", "trusted_keys"], message })?;
    ensure(
        (Duration::from_millis(100)..=LONGEST_INTERVAL).contains(&fleet.interval),
        &["fleet", "interval"],
        || "expected \"100ms\" to \"5m\"".to_owned(),
    )
}
