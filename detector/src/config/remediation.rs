//! The section `remediation`: where the disks of VMs go that are to come back, and who changes them.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Deserialize;

use super::{
    check::{Checked, ensure},
    text::duration,
};
use crate::remediate::{
    contain::Containment,
    provision::{Provisioner, offline::Offline},
    replace::Cloning,
};

const LONGEST_GRACE: Duration = Duration::from_secs(60 * 60);
const LONGEST_RUN: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_OUTPUT: usize = 1024;

/// The section `remediation`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemediationKeys {
    /// How many people have to approve a release; with two or more whoever has started it is none of them.
    pub approvals: u8,
    /// The pool that disks are moved to; they are not when the key is absent.
    pub pool: Option<String>,
    /// How long a guest may take to shut down; zero does not ask it.
    #[serde(deserialize_with = "duration")]
    pub shutdown_grace: Duration,
    /// Whether its power is taken then.
    pub force: bool,
    /// How a VM is contained that has no port.
    pub contain: Containment,
    /// The pool that the disks of VMs are made in which take the place of others.
    pub replacement_pool: String,
    pub cloning: Cloning,
    pub provisioners: Vec<ProvisionerKeys>,
}

impl Default for RemediationKeys {
    fn default() -> Self {
        let shutdown_grace = Duration::from_secs(120);
        Self {
            approvals: 1,
            pool: None,
            shutdown_grace,
            force: true,
            contain: Containment::Suspend,
            replacement_pool: "default".to_owned(),
            cloning: Cloning::Overlay,
            provisioners: Vec::new(),
        }
    }
}

/// An entry of `remediation.provisioners`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvisionerKeys {
    pub name: String,
    /// A program, or nothing where `offline` says what is to be done.
    #[serde(default)]
    pub command: Vec<String>,
    /// What is done to the disks while the VM is off.
    pub offline: Option<Offline>,
    /// A second to a day.
    #[serde(deserialize_with = "duration", default = "half_an_hour")]
    pub timeout: Duration,
    /// How much of the end of its output is kept, in KiB: at most 1024.
    #[serde(default = "some_output")]
    pub output_kib: usize,
    /// Whether the VM runs meanwhile, cut off as it is.
    #[serde(default = "yes")]
    pub start: bool,
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

fn half_an_hour() -> Duration {
    Duration::from_secs(30 * 60)
}

fn yes() -> bool {
    true
}

fn some_output() -> usize {
    64
}

impl ProvisionerKeys {
    /// Whether the VM runs for it.
    pub(crate) fn runs_vm(&self) -> bool {
        self.start && self.offline.is_none()
    }

    /// Why what it is to do cannot be meant.
    fn check_work(&self, has_pool: bool) -> Option<String> {
        let name = &self.name;
        let Some(offline) = &self.offline else {
            let whole = self.command.first().is_some_and(|one| Path::new(one).is_absolute());
            return (!whole).then(|| {
                format!(
                    "the command of {name:?} is expected to begin with the whole path of a program"
                )
            });
        };
        if !self.command.is_empty() || !self.settings.is_empty() {
            return Some(format!("{name:?}: expected either `offline`, or a command and settings"));
        }
        if !has_pool {
            return Some(format!(
                "{name:?} works on disks in the pool of the sandbox: name one by remediation.pool"
            ));
        }
        offline.fault().map(|why| format!("the offline provisioner {name:?}: {why}"))
    }

    pub fn program(&self) -> Provisioner {
        Provisioner {
            name: self.name.clone(),
            command: self.command.clone(),
            timeout: self.timeout,
            keep: self.output_kib << 10,
            settings: self.settings.clone(),
        }
    }
}

impl RemediationKeys {
    /// More people than this are not on duty.
    pub(super) const MOST_APPROVALS: u8 = 5;

    pub fn provisioner(&self, name: &str) -> Option<&ProvisionerKeys> {
        self.provisioners.iter().find(|keys| keys.name == name)
    }

    pub(super) fn check(&self) -> Checked {
        const PROVISIONERS: &[&str] = &["remediation", "provisioners"];
        ensure(self.pool.as_deref() != Some(""), &["remediation", "pool"], || {
            "expected the name of a storage pool; leave the key out where nothing is to be moved"
                .to_owned()
        })?;
        ensure(!self.replacement_pool.is_empty(), &["remediation", "replacement_pool"], || {
            "expected the name of a storage pool, such as \"default\"".to_owned()
        })?;
        ensure(self.shutdown_grace <= LONGEST_GRACE, &["remediation", "shutdown_grace"], || {
            "expected at most one hour (\"1h\")".to_owned()
        })?;
        for (number, keys) in self.provisioners.iter().enumerate() {
            let name = &keys.name;
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            ensure(!name.is_empty() && name.chars().all(plain), PROVISIONERS, || {
                format!("{name:?} is no name of a provisioner; expected letters, digits, - and _")
            })?;
            let earlier = self.provisioners.iter().take(number);
            ensure(!earlier.clone().any(|other| other.name == *name), PROVISIONERS, || {
                format!("{name:?} is listed twice")
            })?;
            keys.check_work(self.pool.is_some())
                .map_or(Ok(()), |why| ensure(false, PROVISIONERS, || why.clone()))?;
            let timely = (Duration::from_secs(1)..=LONGEST_RUN).contains(&keys.timeout);
            ensure(timely, PROVISIONERS, || {
                format!("the timeout of {name:?}: expected \"1s\" to \"1day\"")
            })?;
            ensure(keys.output_kib <= MOST_OUTPUT, PROVISIONERS, || {
                format!("the output_kib of {name:?}: expected at most {MOST_OUTPUT}")
            })?;
        }
        Ok(())
    }
}
