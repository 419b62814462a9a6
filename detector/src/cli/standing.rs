//! What the kernel does with a VM that nobody has judged, as it holds it itself: no daemon is asked.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use detector_common::{port::Role, settings::Mode};
use detector_core::{
    decide::{Class, classify},
    model::Policy,
};

use super::{Global, ask};
use crate::{
    bpf::{BpfError, Inspector},
    config::Config,
    mode::ModeFile,
    net,
};

/// The word on the kernel's command line that keeps the service from starting.
const OFF: &str = "detector.off";

/// What is known of the host beside the daemon.
pub(super) struct Ground {
    pins: PathBuf,
    policy: Policy,
    /// The mode that the daemon begins in where nothing is pinned.
    first: Mode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its frames go on: verdicts are not carried out.
    Observed,
    /// It is mute.
    Gated,
    /// Its frames go on, though they should not, and why.
    Open(String),
    /// Its frames go on, as whoever started the host wants it.
    Off,
}

impl Ground {
    /// Where the configuration cannot be used, what it says of places counts, and the defaults for all else.
    pub(super) fn new(global: &Global, config: Option<&Config>) -> Self {
        let defaults = Config::default();
        let paths = config.map_or_else(|| ask::paths(global), |config| config.paths.clone());
        let config = config.unwrap_or(&defaults);
        Self {
            pins: global.pins.clone().unwrap_or(paths.pins),
            policy: config.policy(),
            first: first_mode(&paths.state, config.mode),
        }
    }

    pub(super) fn pins(&self) -> &Path {
        &self.pins
    }

    /// As the kernel says, or where nothing is pinned what was confirmed or configured.
    pub(super) fn standing(&self) -> Standing {
        match (Inspector::enforces(&self.pins), self.first) {
            (Ok(Some(true)), _) => self.gates(),
            (Err(BpfError::OtherSchema { .. } | BpfError::Shape { .. }), Mode::Enforce) => {
                // Another release's, which keeps it mute as well.
                Standing::Gated
            }
            (Ok(Some(false)), _) | (Ok(None) | Err(_), Mode::Observe) => Standing::Observed,
            (Ok(None) | Err(_), Mode::Enforce) if is_off() => Standing::Off,
            (Ok(None), Mode::Enforce) => Standing::Open("nothing is in force yet".to_owned()),
            (Err(error), Mode::Enforce) => Standing::Open(error.to_string()),
        }
    }

    fn gates(&self) -> Standing {
        match self.ungated() {
            Ok(ungated) if ungated.is_empty() => Standing::Gated,
            Ok(ungated) => Standing::Open(format!("no gate is on {}", ungated.join(", "))),
            Err(why) => Standing::Open(why),
        }
    }

    /// Bridges in scope, and ways out of them, on which not all programs run.
    fn ungated(&self) -> Result<Vec<String>, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let links: BTreeMap<_, _> = net::links()
            .map_err(|error| text(&error))?
            .into_iter()
            .map(|link| (link.ifindex, link))
            .collect();
        let gates = Inspector::open(&self.pins)
            .and_then(|inspector| inspector.gates())
            .map_err(|error| text(&error))?;
        let role = |class| match class {
            Class::Bridge => Some(Role::Bridge),
            Class::Uplink => Some(Role::Uplink),
            Class::Trusted | Class::Guest | Class::Device { .. } | Class::Sandbox => None,
        };
        let ungated = classify(&links, &self.policy).into_iter().filter(|(link, class)| {
            role(*class).is_some_and(|role| gates.get(&link.ifindex) != Some(&role))
        });
        Ok(ungated.map(|(link, _)| link.name.clone()).collect())
    }
}

/// The mode that was confirmed last, or else the configured one.
fn first_mode(state: &Path, configured: Mode) -> Mode {
    match ModeFile::new(state).read() {
        Ok(Some(kept)) => kept.mode,
        Ok(None) | Err(_) => configured,
    }
}

fn is_off() -> bool {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    // As systemd has it: with a value or without.
    line.split_whitespace().any(|word| word.split('=').next() == Some(OFF))
}
