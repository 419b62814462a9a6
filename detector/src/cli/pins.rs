//! What the pinned maps say when the daemon does not answer.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail};
use detector_common::{addr::Mac, port::flags, services::Service, settings::Mode};
use detector_core::model::{ObservedInterface, Quarantine, QuarantineTarget};
use serde::Serialize;

use super::{Global, ask, escape::escape};
use crate::{
    api::{
        CallError,
        kernel::{
            cause_name, counters, identities, isolation, learned, mode_name, role_name, services,
            sighting, state,
        },
        view::{Explanation, PortState, PortView, QuarantineView, moment},
    },
    bpf::{self, Inspector},
    suggest::did_you_mean,
};

/// Who says what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Origin {
    Daemon,
    /// The pinned maps: without the daemon nobody knows VMs and reasons.
    Pins,
}

/// What is in force.
pub(super) struct Pinned {
    /// Whether verdicts are carried out.
    pub(super) enforces: Option<bool>,
    pub(super) ports: Vec<PortView>,
    pub(super) quarantines: Vec<QuarantineView>,
}

/// Reads the pins in place of a daemon that does not answer, and says so. One that has refused is
/// not gone round.
pub(super) fn instead(global: &Global, error: CallError) -> Result<Pinned> {
    if !matches!(error, CallError::Unreachable { .. } | CallError::Broken(_)) {
        return Err(error.into());
    }
    let why = format!("{:#}", anyhow::Error::from(error));
    let pinned = read(&ask::pins(global)?).with_context(|| format!("{why}; without it"))?;
    eprintln!("detector: {}; this is what the pinned maps hold", escape(&why));
    Ok(pinned)
}

/// Reads the pins in this directory.
pub(super) fn read(pins: &Path) -> Result<Pinned> {
    let inspector = Inspector::open(pins)?;
    let enforces = inspector.mode()?.map(|mode| mode.effective() == Mode::Enforce);
    let snapshot = inspector.snapshot()?;
    let ports: Vec<_> =
        snapshot.ports.into_iter().map(|one| port(one, &snapshot.services)).collect();
    let quarantines =
        snapshot.quarantines.iter().map(|quarantine| view(quarantine, &ports)).collect();
    Ok(Pinned { enforces, ports, quarantines })
}

impl Pinned {
    pub(super) fn port(self, name: &str) -> Result<PortView> {
        let number = name.parse().ok();
        let close = did_you_mean(name, self.ports.iter().map(|port| port.name.as_str()));
        let mut ports = self.ports.into_iter();
        match ports.find(|port| port.name == name || Some(port.ifindex) == number) {
            Some(port) => Ok(port),
            None => bail!("no port {name:?} is in force{close}; `detector port list` shows all"),
        }
    }

    /// What the maps tell about a port, or about a MAC.
    pub(super) fn explain(self, subject: &str) -> Result<Explanation> {
        let mac = subject.parse::<Mac>().ok().map(|mac| mac.to_string());
        let number = subject.parse().ok();
        let concerns = |port: &PortView| match &mac {
            Some(mac) => {
                port.identities.iter().any(|identity| identity.mac == *mac)
                    || port.sightings.iter().any(|seen| seen.mac == *mac)
            }
            None => port.name == subject || Some(port.ifindex) == number,
        };
        let ports: Vec<_> = self.ports.into_iter().filter(concerns).collect();
        let [first, ..] = &ports[..] else {
            bail!(
                "no port {subject:?} is in force, and none has it for a MAC; without the daemon VMs \
                 are not known. `detector port list` shows the ports"
            )
        };
        let holds = |target: &QuarantineTarget| match target {
            QuarantineTarget::Port { ifindex, instance } => {
                ports.iter().any(|port| (port.ifindex, port.instance) == (*ifindex, *instance))
            }
            QuarantineTarget::Mac(held) => {
                let held = held.to_string();
                ports.iter().flat_map(|p| &p.identities).any(|identity| identity.mac == held)
            }
            QuarantineTarget::Vm(_) => false,
        };
        let quarantines = self.quarantines.into_iter().filter(|q| holds(&q.target)).collect();
        let is_granted =
            ports.iter().any(|p| p.identities.iter().any(|i| Some(&i.mac) == mac.as_ref()));
        let (kind, status) = match &mac {
            Some(_) => ("mac", if is_granted { "granted" } else { "not-granted" }),
            None => ("port", first.status.as_str()),
        };
        Ok(Explanation {
            subject: mac.unwrap_or_else(|| first.name.clone()),
            kind: kind.to_owned(),
            status: status.to_owned(),
            summary: "The daemon does not answer: this is what the kernel has in force.".to_owned(),
            since: None,
            vm: None,
            ports,
            quarantines,
            findings: Vec::new(),
            remedies: Vec::new(),
        })
    }

    pub(super) fn quarantine(self, name: &str) -> Result<QuarantineView> {
        let mut quarantines = self.quarantines.into_iter();
        match quarantines.find(|quarantine| quarantine.name.eq_ignore_ascii_case(name)) {
            Some(quarantine) => Ok(quarantine),
            None => bail!(
                "no quarantine on {name:?} is in force; without the daemon VMs are known by UUID \
                 only. `detector quarantine list` shows all"
            ),
        }
    }
}

/// A quarantine, with the name of its port where it has one of these.
pub(super) fn view(quarantine: &Quarantine, ports: &[PortView]) -> QuarantineView {
    QuarantineView {
        target: quarantine.target,
        name: name(&quarantine.target, ports),
        since: moment(quarantine.since),
        cause: cause_name(quarantine.cause).to_owned(),
        mode: mode_name(quarantine.mode).to_owned(),
        uid: quarantine.uid,
        note: quarantine.note.clone(),
    }
}

fn port(port: bpf::PortView, offered: &BTreeSet<Service>) -> PortView {
    let interface = ObservedInterface {
        slot: port.slot,
        grants: port.grants,
        prefixes: port.prefixes,
        forwarding: Default::default(),
        defended: Default::default(),
        shield: Default::default(),
        passage: None,
    };
    PortView {
        name: port.name.unwrap_or_else(|| format!("#{}", port.slot.ifindex)),
        ifindex: port.slot.ifindex,
        instance: port.slot.instance,
        role: role_name(&port.slot).to_owned(),
        bridge: None,
        device: None,
        status: if port.guarded { state(&port.slot) } else { PortState::Unguarded },
        isolation: isolation(&port.slot),
        shield: port.shield,
        passage: port.passage,
        services: services(&port.slot, offered),
        why: None,
        since: None,
        vm: None,
        identities: identities(&interface),
        counters: Some(counters(port.counts)),
        learned: port.learned.iter().map(learned).collect(),
        observed: port.slot.has(flags::OBSERVED),
        sightings: port.sightings.iter().map(sighting).collect(),
    }
}

fn name(target: &QuarantineTarget, ports: &[PortView]) -> String {
    match target {
        QuarantineTarget::Mac(mac) => mac.to_string(),
        QuarantineTarget::Vm(uuid) => uuid.to_string(),
        QuarantineTarget::Port { ifindex, instance } => ports
            .iter()
            .find(|port| (port.ifindex, port.instance) == (*ifindex, *instance))
            .map_or_else(|| format!("{ifindex}/{instance}"), |port| port.name.clone()),
    }
}
