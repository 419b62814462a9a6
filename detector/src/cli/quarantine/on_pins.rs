//! Quarantines that are imposed and lifted on the pinned maps themselves, while no daemon runs.

use std::{io::ErrorKind, path::Path};

use anyhow::{Result, anyhow, bail};
use detector_common::{
    addr::Mac,
    quarantine::{Cause, QuarantineMode},
};
use detector_core::model::{Quarantine, QuarantineTarget, Timestamp};
use nix::unistd::geteuid;

use super::super::{
    Global,
    args::{QuarantineModeArg, Target, TargetKind},
    ask,
    audit::recorded::on_record,
    escape::escape,
    pins::{self, Pinned},
};
use crate::{
    api::{
        CallError,
        view::{PortState, QuarantineView},
    },
    audit::Subject,
    bpf::{Applied, BpfError, Inspector},
    quarantines::{Kept, Memory},
};

/// Cuts a port or a MAC off.
pub(super) fn add(
    global: &Global,
    error: CallError,
    target: &Target,
    reason: &str,
    mode: Option<QuarantineModeArg>,
) -> Result<QuarantineView> {
    let why = unanswered(error)?;
    let action = ("quarantine-add", subject(target), reason);
    on_record(global, action, || put(global, &why, target, reason, mode))
}

fn put(
    global: &Global,
    why: &str,
    target: &Target,
    reason: &str,
    mode: Option<QuarantineModeArg>,
) -> Result<QuarantineView> {
    let root = ask::pins(global)?;
    let mode = mode_on(global, mode)?;
    let pinned = pins::read(&root).map_err(|error| anyhow!("{why}; without it: {error:#}"))?;
    let target = match target.kind {
        TargetKind::Mac => QuarantineTarget::Mac(mac(&target.name)?),
        TargetKind::Port => port(&pinned, &target.name)?,
        TargetKind::Vm => bail!(
            "{why}; without it nobody knows through which ports a VM speaks. Quarantine the MACs of its \
             NICs (`virsh domiflist` lists them) or its ports (`detector port list`) now, and the VM when \
             the daemon runs again"
        ),
    };
    let quarantine =
        Quarantine::new(target, now(), Cause::Operator, geteuid().as_raw(), reason).in_mode(mode);
    let applied = Inspector::put_quarantine(&root, &quarantine)
        .map_err(|error| explained(why, &root, error))?;
    let effect = match &names(&applied, &pinned)[..] {
        [] => "no port that speaks has it; the daemon cuts off whichever has when it runs again"
            .into(),
        ports if mode == QuarantineMode::Sandbox => format!(
            "cut off at once: {}; the way to the sandbox opens when the daemon runs again",
            ports.join(", ")
        ),
        ports => format!("cut off at once: {}", ports.join(", ")),
    };
    note(why, &effect);
    let view = pins::view(&quarantine, &pinned.ports);
    let port = matches!(target, QuarantineTarget::Port { .. }).then(|| view.name.clone());
    keep(global, &applied, target, Some(Kept { quarantine, port }));
    Ok(view)
}

/// Lifts what a person has imposed.
pub(super) fn release(
    global: &Global,
    error: CallError,
    target: &Target,
) -> Result<QuarantineTarget> {
    let why = unanswered(error)?;
    on_record(global, ("quarantine-release", subject(target), ""), || lift(global, &why, target))
}

fn lift(global: &Global, why: &str, target: &Target) -> Result<QuarantineTarget> {
    let root = ask::pins(global)?;
    let pinned = pins::read(&root).map_err(|error| anyhow!("{why}; without it: {error:#}"))?;
    let lifted = match target.kind {
        TargetKind::Mac => QuarantineTarget::Mac(mac(&target.name)?),
        TargetKind::Port => port_on_record(&pinned, &target.name)?,
        TargetKind::Vm => match target.name.parse() {
            Ok(uuid) => QuarantineTarget::Vm(uuid),
            Err(_) => bail!(
                "{why}; without it VMs are known by UUID only: `detector quarantine list` shows them"
            ),
        },
    };
    if !pinned.quarantines.iter().any(|quarantine| quarantine.target == lifted) {
        bail!("{} is not quarantined; `detector quarantine list` shows what is", target.name);
    }
    let applied =
        Inspector::lift_quarantine(&root, lifted).map_err(|error| explained(why, &root, error))?;
    let effect = match &names(&applied, &pinned)[..] {
        [] => "what the daemon has cut off for it is judged anew when it runs again".to_owned(),
        ports => format!("granted again as before: {}", ports.join(", ")),
    };
    note(why, &effect);
    keep(global, &applied, lifted, None);
    Ok(lifted)
}

fn subject(target: &Target) -> Subject {
    let of = match target.kind {
        TargetKind::Mac => "mac",
        TargetKind::Port => "port",
        TargetKind::Vm => "vm",
    };
    Subject::new(of, target.name.as_str())
}

/// Why the daemon has not answered. One that has refused, or may not be asked, is not gone round.
fn unanswered(error: CallError) -> Result<String> {
    match &error {
        CallError::Unreachable { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            Err(ask::complaint(error))
        }
        CallError::Unreachable { .. } | CallError::Broken(_) => {
            Ok(format!("{:#}", anyhow::Error::from(error)))
        }
        CallError::Refused(_) | CallError::Unintelligible(_) => Err(ask::complaint(error)),
    }
}

/// The mode that is asked for, or configured; the strictest where the configuration cannot be read, which
/// may be why no daemon runs.
fn mode_on(global: &Global, asked: Option<QuarantineModeArg>) -> Result<QuarantineMode> {
    let config = ask::config(global);
    let mode = match (asked, &config) {
        (Some(QuarantineModeArg::Drop), _) | (None, Err(_)) => QuarantineMode::Drop,
        (Some(QuarantineModeArg::Sandbox), _) => QuarantineMode::Sandbox,
        (None, Ok(config)) => config.policy.quarantine,
    };
    if mode == QuarantineMode::Sandbox && config?.sandbox.bridge.is_none() {
        bail!(
            "there is no sandbox on this host: name its bridge in the configuration as sandbox.bridge, \
             or quarantine with --mode drop"
        );
    }
    Ok(mode)
}

fn mac(text: &str) -> Result<Mac> {
    text.parse().map_err(|error| anyhow!("{text:?} is {error}"))
}

/// A port in force, by name, ifindex, or ifindex and instance.
fn port(pinned: &Pinned, name: &str) -> Result<QuarantineTarget> {
    let is_called = |port: &&crate::api::view::PortView| {
        port.name == name
            || name == port.ifindex.to_string()
            || name == format!("{}/{}", port.ifindex, port.instance)
    };
    let Some(port) = pinned.ports.iter().find(is_called) else {
        bail!(
            "no port {name:?} is in force; `detector port list` shows all. An interface that came while \
             the daemon does not run reaches nobody (in enforce mode) until it is judged"
        )
    };
    if port.role != "guest" {
        bail!("only guest ports are quarantined: {name} is the host's own");
    }
    if port.status == PortState::Unguarded {
        bail!(
            "no guard is attached to {name}: it reaches nobody (in enforce mode) until the daemon runs \
             again. Take it away with `ip link set {name} down`"
        );
    }
    Ok(QuarantineTarget::Port { ifindex: port.ifindex, instance: port.instance })
}

/// A quarantined port, also one whose interface is gone.
fn port_on_record(pinned: &Pinned, name: &str) -> Result<QuarantineTarget> {
    let numbers = name
        .split_once('/')
        .and_then(|(ifindex, instance)| Some((ifindex.parse().ok()?, instance.parse().ok()?)));
    match numbers {
        Some((ifindex, instance)) => Ok(QuarantineTarget::Port { ifindex, instance }),
        None => port(pinned, name),
    }
}

/// What to say of pins that cannot be changed.
fn explained(why: &str, root: &Path, error: BpfError) -> anyhow::Error {
    match error {
        BpfError::Locked { holder, .. } => anyhow!(
            "{why}, but it lives: process {holder} holds {}. It may be about to answer: try again. If it \
             hangs, end it (`kill -9 {holder}`; what is in force stays in force), and then quarantine",
            root.display()
        ),
        error => anyhow!("{why}; without it: {:#}", anyhow::Error::from(error)),
    }
}

/// Has it outlast a restart of the host, too, as the daemon would.
fn keep(global: &Global, applied: &Applied, target: QuarantineTarget, kept: Option<Kept>) {
    let state = ask::config(global).map(|config| config.paths.state);
    let written =
        state.and_then(|state| Ok(Memory::new(&state).amend(applied.map, target, kept)?));
    if let Err(error) = written {
        let why = escape(&format!("{error:#}"));
        eprintln!(
            "detector: until the daemon runs again this does not outlast a restart of the host: {why}"
        );
    }
}

fn names(applied: &Applied, pinned: &Pinned) -> Vec<String> {
    let changed = pinned.ports.iter().filter(|port| applied.ports.contains(&port.ifindex));
    changed.map(|port| port.name.clone()).collect()
}

fn note(why: &str, effect: &str) {
    eprintln!("detector: {}; written to the pinned maps. {}", escape(why), escape(effect));
}

fn now() -> Timestamp {
    let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
