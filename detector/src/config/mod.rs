//! The daemon's configuration file.
//!
//! Every key is optional and every unknown key is an error. What is wrong is reported with the
//! file, the line and the column.

pub mod alerts;
mod audit;
mod check;
mod fleet;
mod learning;
mod libvirt;
mod mitigation;
pub mod reload;
mod remediation;
mod roles;
mod sandbox;
mod sections;
pub(crate) mod text;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use detector_core::model::{
    Digest, FloodLimits, ModeRule, ModeScope, Policy, SandboxRules, ShutDown,
};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::registry::{Manifests, Trust};

pub use alerts::Alerts;
pub use audit::AuditKeys;
pub use fleet::FleetKeys;
pub use learning::Learning;
pub use libvirt::Libvirt;
pub use mitigation::MitigationKeys;
pub use remediation::{ProvisionerKeys, RemediationKeys};
pub use roles::Roles;
pub use sandbox::{Protocol, Sandbox, ServiceKeys};
pub use sections::{
    Admission, Api, Config, Flood, Metrics, ModeKeys, Network, OnRefusal, Paths, PolicyKeys,
    RegistryKeys, Scan,
};
use text::read_text;
pub use text::{Place, ReadError};

/// Where the configuration is read from when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/detector/config.toml";

/// A configuration is a page of text; what is larger is not one.
const MAX_BYTES: u64 = 1 << 20;

/// The documented configuration file that is installed: every key at its default, commented out.
pub const EXAMPLE: &str = include_str!("../../../packaging/config.toml");

/// Why a configuration is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {why}", path = path.display())]
    Unreadable { path: PathBuf, why: ReadError },
    #[error("{place}: {message}")]
    Invalid { place: Place, message: String },
}

/// Where the configuration is, and what the command line puts in its place; by itself, what is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub config: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub pins: Option<PathBuf>,
}

impl Places {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// Why it is not used.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.placed(Config::load(self.config.as_deref())?)
    }

    /// Reads the configuration as if this table stood in it.
    ///
    /// # Errors
    ///
    /// Why it is not used.
    pub(crate) fn load_with(
        &self,
        over: impl FnOnce(&mut toml::Table),
    ) -> Result<Config, ConfigError> {
        let path = self.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        let text = Config::text(self.config.as_deref())?;
        let mut table =
            text.as_deref().map_or_else(|| Ok(toml::Table::new()), |text| read(text, path))?;
        over(&mut table);
        let config = self.placed(Config::parse(&table.to_string(), path)?)?;
        Ok(Config { text: text.as_deref().map(digest), ..config })
    }

    fn placed(&self, mut config: Config) -> Result<Config, ConfigError> {
        if let Some(socket) = &self.socket {
            config.paths.socket.clone_from(socket);
        }
        if let Some(pins) = &self.pins {
            config.paths.pins.clone_from(pins);
        }
        Ok(config)
    }
}

impl Config {
    /// Reads the file, or [`DEFAULT_PATH`] when none is named. Only the latter may be absent: then
    /// the defaults hold.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(text) = Self::text(path)? else { return Ok(Self::default()) };
        let config = Self::parse(&text, path.unwrap_or(Path::new(DEFAULT_PATH)))?;
        Ok(Self { text: Some(digest(&text)), ..config })
    }

    /// The text of the file; none where nobody has named one and there is none.
    fn text(path: Option<&Path>) -> Result<Option<String>, ConfigError> {
        let named = path.is_some();
        let path = path.unwrap_or(Path::new(DEFAULT_PATH));
        match read_text(path, MAX_BYTES) {
            Ok(text) => Ok(Some(text)),
            Err(ReadError::Absent) if !named => Ok(None),
            Err(why) => Err(ConfigError::Unreadable { path: path.to_owned(), why }),
        }
    }

    /// Parses and checks the text of a configuration; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = read(text, path)?;
        match check::check(&config) {
            Ok(()) => Ok(config),
            Err(check::Complaint { key, message }) => Err(ConfigError::Invalid {
                place: Place::of(path, text, text::span_of(text, key)),
                message: format!("{}: {message}", key.join(".")),
            }),
        }
    }

    /// The text of a configuration that may be wrong, where it is TOML at all.
    pub(crate) fn table(path: &Path) -> Option<toml::Table> {
        read_text(path, MAX_BYTES).ok()?.parse().ok()
    }

    /// The templates' manifests, taken by the signatures that are configured. The serials of signed ones
    /// are kept where `keep` is set. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with a key; a configuration that has been parsed has none such.
    pub fn manifests(&self, keep: bool) -> Result<Manifests, String> {
        let trust = Trust::new(&self.registry.trusted_keys, self.registry.require_signature)?;
        let state = keep.then_some(self.paths.state.as_path());
        Ok(Manifests::new(&self.paths.templates).trusting(trust, state))
    }

    /// What the administrator has configured about verdicts.
    pub fn policy(&self) -> Policy {
        Policy {
            mode: self.mode,
            modes: self.modes.iter().filter_map(rule).collect(),
            evidence: self.policy.evidence,
            default_rule: self.policy.default_rule,
            bridges: self.network.bridges.clone(),
            uplinks: self.network.uplinks.clone(),
            trusted: self.network.trusted.clone(),
            protected: self.network.protected.clone(),
            closed_devices: self.network.closed_devices.clone(),
            known_senders: self.network.known_senders.clone(),
            adoption: self.learning.adoption(),
            unknown_port_grace: self.policy.unknown_port_grace,
            quarantine: self.policy.quarantine,
            sandbox: self.sandbox.bridge.clone().map(|bridge| SandboxRules {
                bridge,
                create: self.sandbox.create,
                rule: self.sandbox.rule,
                addresses: self.sandbox.addresses.clone(),
                protected: (self.sandbox.reserved().map(|(_, address)| address))
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
                services: (self.sandbox.services.as_ref())
                    .map(|all| all.iter().filter_map(ServiceKeys::service).collect()),
            }),
            revoked: self.policy.revoked,
            revoked_grace: self.policy.revoked_grace,
            blast: self.mitigation.limits(),
            curb: self.mitigation.unknown_processes.curb(),
            shut_down: ShutDown {
                grace: self.remediation.shutdown_grace,
                force: self.remediation.force,
            },
            flood: FloodLimits {
                above: self.flood.above,
                after: self.flood.after,
                below: self.flood.below,
                calm: self.flood.calm,
            },
        }
    }
}

fn digest(text: &str) -> Digest {
    Digest(Sha256::digest(text).into())
}

fn read<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Invalid {
        place: Place::of(path, text, error.span()),
        message: text::one_line(error.message()),
    })
}

/// One of bridge and VM is said, as has been checked.
fn rule(keys: &ModeKeys) -> Option<ModeRule> {
    let of = match (&keys.bridge, &keys.vm) {
        (Some(bridge), _) => ModeScope::Bridge(bridge.clone()),
        (None, Some(vm)) => ModeScope::Vm(vm.clone()),
        (None, None) => return None,
    };
    Some(ModeRule { of, mode: keys.mode })
}

#[cfg(test)]
mod tests;
