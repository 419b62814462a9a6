//! Completion in the shell: what it prints asks this program, which knows the names.

use std::{env, ffi::OsStr, io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{CommandFactory, ValueEnum};
use clap_complete::{
    Shell,
    engine::CompletionCandidate,
    env::{CompleteEnv, Shells},
};

use super::{Cli, Done, pins};
use crate::{
    api::{
        Client, Reply, Request,
        view::{PortView, vm_status},
    },
    config::Config,
};

/// The variable by which a shell asks.
const ASKED: &str = "COMPLETE";

/// Answers a shell that asks for completions, and ends the process; returns where none does.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKED).bin("detector").complete();
}

pub(super) fn run(shell: Shell) -> Result<Done> {
    let name = shell.to_possible_value().map(|value| value.get_name().to_owned());
    let name = name.unwrap_or_default();
    let shells = Shells::builtins();
    let completer = shells
        .completer(&name)
        .with_context(|| format!("no completions for {name:?} are known"))?;
    let mut script = Vec::new();
    completer.write_registration(ASKED, "detector", "detector", "detector", &mut script)?;
    std::io::stdout().write_all(&script)?;
    Ok(Done::Fine)
}

/// The templates by the names that commands take, each with its status. None where they cannot be read:
/// a shell that waits for words is no place for complaints.
pub(super) fn templates() -> Vec<(String, String)> {
    let config = env::var_os("DETECTOR_CONFIG").map(PathBuf::from);
    let Ok(config) = Config::load(config.as_deref()) else { return Vec::new() };
    let Ok(mut manifests) = config.manifests(false) else { return Vec::new() };
    let templates = manifests.reload().templates;
    let named = templates.iter().map(|template| {
        let alone = templates.iter().filter(|other| other.id == template.id).count() == 1;
        let name = if alone { template.name() } else { template.exact_name() };
        (name, template.status.as_str().to_owned())
    });
    named.filter(|(name, _)| is_one_word(name)).collect()
}

/// A word that a shell would read as several, or as a command, is no help: a guest's owner may have chosen it.
fn is_one_word(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+:@/-".contains(c);
    !name.starts_with('-') && name.chars().all(plain)
}

/// How long a shell may be kept waiting.
const BRIEFLY: Duration = Duration::from_millis(500);

/// What the daemon, or the pinned maps without it, know for a shell to complete: a name, and what it is.
fn known(request: Request) -> Vec<(String, String)> {
    let config = env::var_os("DETECTOR_CONFIG").map(PathBuf::from);
    let Ok(config) = Config::load(config.as_deref()) else { return Vec::new() };
    let is_about_ports = matches!(request, Request::PortList { .. });
    let asked = Client::connect(&config.paths.socket, BRIEFLY).and_then(|mut it| it.call(request));
    let named = |port: PortView| (port.name, format!("port, {}", port.status.as_str()));
    match asked {
        Ok(Reply::Ports(ports)) => ports.into_iter().map(named).collect(),
        Ok(Reply::Vms(vms)) => {
            vms.into_iter().map(|vm| (vm.name, format!("VM, {}", vm_status(vm.status)))).collect()
        }
        Err(_) if is_about_ports => {
            let pinned = pins::read(&config.paths.pins);
            pinned.map(|pinned| pinned.ports.into_iter().map(named).collect()).unwrap_or_default()
        }
        Ok(Reply::Processes(processes)) => processes
            .into_iter()
            .map(|process| {
                let name = process.vm.map(|vm| vm.name).or(process.says.name);
                (
                    name.unwrap_or_else(|| process.pid.to_string()),
                    format!("process, {}", process.status),
                )
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn candidates(start: &OsStr, known: Vec<(String, String)>) -> Vec<CompletionCandidate> {
    let start = start.to_string_lossy();
    let fits = |(name, _): &(String, String)| name.starts_with(&*start) && is_one_word(name);
    let fitting = known.into_iter().filter(fits);
    fitting.map(|(name, what)| CompletionCandidate::new(name).help(Some(what.into()))).collect()
}

/// The names of ports, for the shell to complete.
pub(super) fn ports(start: &OsStr) -> Vec<CompletionCandidate> {
    candidates(start, known(Request::PortList { counters: false }))
}

/// The names of VMs.
pub(super) fn vms(start: &OsStr) -> Vec<CompletionCandidate> {
    candidates(start, known(Request::VmList {}))
}

/// Processes, by the names of the VMs that they are, or say they are.
pub(super) fn processes(start: &OsStr) -> Vec<CompletionCandidate> {
    candidates(start, known(Request::ProcessList {}))
}

/// The names of VMs and ports.
pub(super) fn subjects(start: &OsStr) -> Vec<CompletionCandidate> {
    let mut all = vms(start);
    all.extend(ports(start));
    all
}
