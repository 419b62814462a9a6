//! What the kernel does with a VM that nobody has judged, as it holds it itself: no daemon is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use detector_common::{port::Role, settings::Mode};
use detector_core::{
    decide::{Class, classify, switched},
    model::{Link, Policy},
};

use super::{Global, ask};
use crate::{
    bpf::{BpfError, Inspector},
    config::Config,
    inventory::xml::plugs::Plugs,
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

    /// As the kernel says, or where nothing is pinned what was confirmed or configured: for a VM that is plugged
    /// in there, or wherever on the host one is.
    pub(super) fn standing(&self, plugs: Option<&Plugs>) -> Standing {
        match (Inspector::enforces(&self.pins), self.first) {
            (Ok(Some(true)), _) => self.gates(plugs),
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

    fn gates(&self, plugs: Option<&Plugs>) -> Standing {
        match self.ungated(plugs) {
            Ok(ungated) if ungated.is_empty() => Standing::Gated,
            Ok(ungated) => Standing::Open(format!("no gate is on {}", ungated.join(", "))),
            Err(why) => Standing::Open(why),
        }
    }

    /// Bridges in scope, and ways out of them, on which not all programs run; of macvtaps the devices, which
    /// only have a gate where they are closed.
    fn ungated(&self, plugs: Option<&Plugs>) -> Result<Vec<String>, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let links: BTreeMap<_, _> = net::links()
            .map_err(|error| text(&error))?
            .into_iter()
            .map(|link| (link.ifindex, link))
            .collect();
        let gates = Inspector::open(&self.pins)
            .and_then(|inspector| inspector.gates())
            .map_err(|error| text(&error))?;
        let needed = needed(&links, &self.policy, plugs);
        let ungated = needed.iter().filter(|(link, role)| gates.get(&link.ifindex) != Some(role));
        Ok(ungated.map(|(link, _)| link.name.clone()).collect())
    }
}

/// The gates that keep a VM mute which is plugged in there, or all.
fn needed<'a>(
    links: &'a BTreeMap<u32, Link>,
    policy: &Policy,
    plugs: Option<&Plugs>,
) -> Vec<(&'a Link, Role)> {
    let is_switched = switched(links);
    let names = |link: &Link, names: &BTreeSet<String>| names.contains(&link.name);
    // In Open vSwitch nobody knows which bridge a port is of.
    let all_switched = plugs.is_some_and(|plugs| {
        links.values().any(|link| names(link, &plugs.bridges) && is_switched(link))
    });
    let is_between = |link: &Link| {
        let Some(plugs) = plugs else { return true };
        let bridge = link.master.and_then(|master| links.get(&master)).unwrap_or(link);
        names(bridge, &plugs.bridges) || all_switched && is_switched(link)
    };
    let role = |link: &Link, class| match class {
        Class::Bridge => is_between(link).then_some(Role::Bridge),
        Class::Uplink => is_between(link).then_some(Role::Uplink),
        Class::Device { .. } => {
            plugs.is_some_and(|plugs| names(link, &plugs.devices)).then_some(Role::ClosedDevice)
        }
        Class::Trusted | Class::Guest | Class::Sandbox => None,
    };
    let classes = classify(links, policy).into_iter();
    classes.filter_map(|(link, class)| Some((link, role(link, class)?))).collect()
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

#[cfg(test)]
mod tests {
    use detector_core::model::LinkKind::{self, Bridge, Macvtap, OpenVSwitch, Physical, Tap};

    use super::*;

    #[test]
    fn a_vm_needs_the_gates_between_itself_and_others() {
        let link = |ifindex, name: &str, kind: LinkKind, master, lower| {
            let name = name.to_owned();
            (ifindex, Link { ifindex, name, kind, master, lower, mac: None })
        };
        let links = BTreeMap::from([
            link(1, "br0", Bridge, None, None),
            link(2, "up0", Physical, Some(1), None),
            link(3, "tap0", Tap, Some(1), None),
            link(4, "br1", Bridge, None, None),
            link(5, "docker0", Bridge, None, None),
            link(6, "eth1", Physical, None, None),
            link(7, "macvtap0", Macvtap, None, Some(6)),
            link(8, "ovs-system", OpenVSwitch, None, None),
            link(9, "sw0", OpenVSwitch, None, None),
            link(10, "sw1", OpenVSwitch, None, None),
            link(11, "up1", Physical, Some(8), None),
        ]);
        let bridges = ["*", "!docker0"].map(str::to_owned).into();
        let policy = Policy { bridges, ..Config::default().policy() };
        let plugged = |bridges: &[&str], devices: &[&str]| {
            let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            Some(Plugs { bridges: names(bridges), devices: names(devices) })
        };
        let switch = ["ovs-system", "sw0", "sw1", "up1"];
        let cases = [
            (plugged(&[], &[]), vec![]),
            (plugged(&["br0"], &[]), vec!["br0", "up0"]),
            (plugged(&["br1"], &[]), vec!["br1"]),
            (plugged(&["docker0"], &[]), vec![]),
            (plugged(&["sw1"], &[]), switch.to_vec()),
            (plugged(&["br1"], &["eth1"]), vec!["br1", "eth1"]),
            (plugged(&[], &["eth9"]), vec![]),
            (None, [&["br0", "up0", "br1"][..], &switch].concat()),
        ];
        for (plugs, expect) in cases {
            let needed = needed(&links, &policy, plugs.as_ref());
            let names: Vec<_> = needed.iter().map(|(link, _)| link.name.as_str()).collect();
            assert_eq!(names, expect, "{plugs:?}");
        }
    }
}
