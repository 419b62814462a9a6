//! Findings about processes that are VMs, and about ways out of VMs on which no guard can be.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Found, finding, pair};
use crate::{
    decide::{
        ProcessOwner, VmStatus,
        text::{bounded, explain, moment, quoted},
        unbridged::{of_vm, passed_through},
    },
    model::{
        Attachment, AttachmentKind, Curbed, FindingKind, PowerState, Recognised, Severity, Subject,
        Vm, VmProcess,
    },
};

/// Unknown processes of one user that have a finding each; the last of them counts the others, so
/// that nobody floods the list.
const OF_ONE_USER: usize = 32;

/// Attachments that a finding lists.
const LISTED: usize = 16;

/// MITRE ATT&CK: what a VM that nobody knows is used for.
const HIDDEN_VM: &str = "T1564.006 Hide Artifacts: Run Virtual Instance";
const TUNNEL: &str = "T1572 Protocol Tunneling";

pub(super) fn report(facts: &Facts<'_>, found: &mut Found) {
    let world = facts.world;
    if let Some((since, why)) = &world.processes.lost {
        super::sources::lost(found, "the process scan", why, *since);
    }
    let mut of_user: BTreeMap<u32, Vec<&VmProcess>> = BTreeMap::new();
    for process in world.processes.found.values().filter(|process| process.lasting) {
        if facts.decision.processes.get(&process.id) == Some(&ProcessOwner::Nobody) {
            of_user.entry(process.uid).or_default().push(process);
        }
    }
    for processes in of_user.values_mut() {
        // What is a VM for certain is not hidden behind what may be one.
        processes.sort_by_key(|process| (!process.is_vm(), process.id));
        let more = processes.len().saturating_sub(OF_ONE_USER);
        for (number, process) in processes.iter().take(OF_ONE_USER).enumerate() {
            let more = if number + 1 == OF_ONE_USER { more } else { 0 };
            unknown(process, more, facts, found);
        }
    }
    unguarded(facts, found);
}

fn unknown(process: &VmProcess, more: usize, facts: &Facts<'_>, found: &mut Found) {
    let pid = process.id.pid;
    let exe = quoted(&process.exe);
    let user = user(process);
    let (severity, what) = match (process.is_vm(), &process.program, &process.obscure) {
        (true, Some(program), _) => {
            (Severity::High, format!("is {}, a virtual machine", program.name))
        }
        (true, None, _) => (Severity::High, "is a virtual machine".to_owned()),
        (false, _, Some(why)) if process.holds == Default::default() => {
            (Severity::Medium, format!("cannot be looked into ({})", bounded(why)))
        }
        _ => (Severity::Medium, "holds what virtual machines are made of".to_owned()),
    };
    let title = format!("Process {pid} ({exe}) of user {user} {what}, and no inventory knows it.");
    let key = (FindingKind::UnknownVmProcess, Subject::Process(process.id));
    let mut evidence = vec![
        pair("pid", pid),
        pair("program", &process.exe),
        pair("command", &process.command),
        pair("user", &user),
        pair("started", moment(process.started)),
    ];
    evidence.extend(process.program.as_ref().map(|program| {
        let by = match program.by {
            Recognised::Name => "by the name of its file",
            Recognised::Content => "by what is in its file",
        };
        pair("recognised", format!("{} ({by})", program.name))
    }));
    evidence.extend(process.obscure.as_ref().map(|why| pair("obscure", why)));
    evidence.extend(holds(process).into_iter().map(|held| pair("holds", held)));
    let ways = process.attachments.iter().take(LISTED);
    evidence.extend(ways.map(|way| pair("network", describe(way))));
    let whose = if process.network_is_hosts { "the host's" } else { "not the host's" };
    evidence.push(pair("network namespace", format!("{} ({whose})", process.network)));
    evidence.push(pair("cgroup", &process.cgroup));
    if let Some(name) = &process.recorded {
        evidence.push(pair("recorded as", name));
    }
    let says = &process.says;
    let claims = [says.name.clone(), says.uuid.map(|uuid| uuid.to_string())];
    evidence.extend(claims.into_iter().flatten().map(|claim| pair("says it is", claim)));
    evidence.extend(world_says(process, facts).map(|said| pair("kept from running on", said)));
    evidence.push(pair("att&ck", HIDDEN_VM));
    let tunnels =
        |way: &Attachment| matches!(way.kind, AttachmentKind::UserMode | AttachmentKind::Socket);
    if process.attachments.iter().any(tunnels) {
        evidence.push(pair("att&ck", TUNNEL));
    }
    if more > 0 {
        evidence.push(pair("more of this user", more));
    }
    let next = Some(format!("detector process show {pid}"));
    let since = process.first.min(facts.world.now);
    found.add(finding(key, severity, title, evidence, next, since));
    if let Some(Curbed::Refused(why)) = facts.world.processes.curbed.get(&process.id) {
        goes_on(process, why, found);
    }
}

/// It was to be kept from running on.
fn goes_on(process: &VmProcess, why: &str, found: &mut Found) {
    let (pid, exe) = (process.id.pid, quoted(&process.exe));
    let title = format!(
        "Process {pid} ({exe}), a VM that no inventory knows, was to be kept from running on, and runs."
    );
    let evidence = vec![pair("pid", pid), pair("user", user(process)), pair("why", bounded(why))];
    let key = (FindingKind::PauseFailed, Subject::Process(process.id));
    let next = Some(format!("kill -KILL {pid}"));
    found.add(finding(key, Severity::High, title, evidence, next, process.first));
}

/// Whether it is kept from running on, where that is configured.
fn world_says(process: &VmProcess, facts: &Facts<'_>) -> Option<String> {
    let held = facts.decision.mitigations.held.get(&process.id.uuid());
    match (facts.world.processes.curbed.get(&process.id), held) {
        (Some(Curbed::Suspended), _) => Some("it is suspended".to_owned()),
        (Some(Curbed::Ended), _) => Some("it was ended".to_owned()),
        (Some(Curbed::Refused(why)), _) => Some(format!("no: {}", bounded(why))),
        (None, Some(_)) => Some("no: it is held (`detector mitigation list`)".to_owned()),
        (None, None) => None,
    }
}

pub(super) fn user(process: &VmProcess) -> String {
    match &process.user {
        Some(name) => format!("{} ({})", quoted(name).trim_matches('"'), process.uid),
        None => process.uid.to_string(),
    }
}

/// What it holds, one thing each.
fn holds(process: &VmProcess) -> Vec<String> {
    let holds = &process.holds;
    let mut held = Vec::new();
    if holds.vms > 0 {
        held.push(counted(holds.vms, "VM", "of the kernel's hypervisor"));
    }
    if holds.vcpus > 0 {
        held.push(counted(holds.vcpus, "processor", "of such VMs"));
    }
    held.extend(holds.taps.iter().take(LISTED).map(|tap| match tap.here {
        Some(true) => format!("tap {}", tap.name),
        Some(false) => format!("tap {} of another network namespace", tap.name),
        None => format!("tap {} of an unknown network namespace", tap.name),
    }));
    held.extend(holds.devices.iter().take(LISTED).cloned());
    held
}

fn counted(count: u32, what: &str, of: &str) -> String {
    format!("{count} {what}{} {of}", if count == 1 { "" } else { "s" })
}

fn describe(way: &Attachment) -> String {
    format!("{}: {}", way.kind.as_str(), way.what)
}

/// What guards cannot hold, of approved VMs too.
fn unguarded(facts: &Facts<'_>, found: &mut Found) {
    let world = facts.world;
    let mut processes: BTreeMap<_, Vec<&VmProcess>> = BTreeMap::new();
    for process in world.processes.found.values().filter(|process| process.lasting) {
        if let Some(vm) = facts.decision.processes.get(&process.id).and_then(ProcessOwner::vm) {
            processes.entry(vm).or_default().push(process);
        }
    }
    for judged in facts.vms {
        let vm = &judged.merged.vm;
        if vm.power == PowerState::Off {
            continue;
        }
        let mut ways: BTreeSet<Attachment> = vm.attachments.iter().cloned().collect();
        ways.extend(unbridged(vm, facts, found));
        let listed: BTreeSet<_> = ways.iter().map(|way| way.kind).collect();
        if !listed.contains(&AttachmentKind::Macvtap) {
            ways.extend(passed_through(vm, world).map(|link| Attachment {
                kind: AttachmentKind::Macvtap,
                what: format!("{} has its device to itself", link.name),
            }));
        }
        for process in processes.get(&vm.uuid).into_iter().flatten() {
            // The inventory says it better where it says it at all.
            let news = process.attachments.iter().filter(|way| !listed.contains(&way.kind));
            ways.extend(news.cloned());
            ways.extend(foreign_taps(process));
        }
        if ways.is_empty() {
            continue;
        }
        let cut_off = matches!(judged.status, VmStatus::Denied | VmStatus::Quarantined);
        let (severity, but) = if cut_off {
            (Severity::High, "its quarantine does not hold there")
        } else {
            (Severity::Medium, "what it sends there is not checked")
        };
        let title = format!("VM {} has a way out without a guard: {but}.", quoted(&vm.name));
        let mut evidence = vec![pair("uuid", vm.uuid)];
        evidence.extend(ways.iter().take(LISTED).map(|way| pair(way.kind.as_str(), &way.what)));
        if ways.len() > LISTED {
            evidence.push(pair("more", ways.len() - LISTED));
        }
        let key = (FindingKind::UnguardedAttachment, Subject::Vm(vm.uuid));
        found.add(finding(key, severity, title, evidence, Some(explain(vm)), world.now));
    }
}

/// Its interfaces that are on no bridge, once they have had the time to be put on one.
fn unbridged(vm: &Vm, facts: &Facts<'_>, found: &mut Found) -> Vec<Attachment> {
    let world = facts.world;
    let mut ways = Vec::new();
    for link in of_vm(&facts.decision.loose, vm, world) {
        let noticed = world.noticed.get(&(link.ifindex, 0)).copied().unwrap_or(world.now);
        let due = noticed + world.policy.unknown_port_grace;
        if world.now < due {
            found.wake_at(due);
        } else {
            let what = format!("interface {} is on no bridge", link.name);
            ways.push(Attachment { kind: AttachmentKind::Unbridged, what });
        }
    }
    ways
}

fn foreign_taps(process: &VmProcess) -> impl Iterator<Item = Attachment> {
    let foreign = process.holds.taps.iter().filter(|tap| tap.here == Some(false));
    foreign.map(|tap| Attachment {
        kind: AttachmentKind::Unbridged,
        what: format!("tap {} of another network namespace", tap.name),
    })
}
