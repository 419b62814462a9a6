use std::io::Write;

use anyhow::Result;
use detector_core::model::{Curbed, Recognised};
use serde::Serialize;

use super::{
    Done, Global,
    args::ProcessCommand,
    ask::{ask, unexpected},
    output::{Output, Text, Tone},
};
use crate::api::{Reply, Request, view::ProcessView};

pub(super) fn run(global: &Global, command: &ProcessCommand) -> Result<Done> {
    let mut output = Output::new(global);
    match command {
        ProcessCommand::List => match ask(global, Request::ProcessList {})? {
            Reply::Processes(processes) => list(&mut output, &processes)?,
            other => return unexpected(&other),
        },
        ProcessCommand::Show { process } => {
            match ask(global, Request::ProcessShow { process: process.clone() })? {
                Reply::Process(process) => show(&mut output, &process)?,
                other => return unexpected(&other),
            }
        }
    }
    Ok(Done::Fine)
}

pub(super) fn list<W: Write>(output: &mut Output<W>, processes: &[ProcessView]) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct List<'a> {
            processes: &'a [ProcessView],
        }
        return output.json(&List { processes });
    }
    let rows = processes
        .iter()
        .map(|process| {
            vec![
                process.pid.to_string().into(),
                whose(process),
                user(process).into(),
                program(process).into(),
                holds(process).join(", ").into(),
                output.ago(process.started).into(),
                process.exe.as_str().into(),
            ]
        })
        .collect();
    output.table(&["PID", "VM", "USER", "PROGRAM", "HOLDS", "STARTED", "FILE"], rows)
}

pub(super) fn show<W: Write>(output: &mut Output<W>, process: &ProcessView) -> Result<()> {
    if output.is_json() {
        return output.json(process);
    }
    output.field("Process", process.pid.to_string())?;
    output.field("VM", whose(process))?;
    output.field("User", user(process))?;
    output.field("Started", format!("{} ({})", process.started, output.ago(process.started)))?;
    output.field("File", process.exe.as_str())?;
    output.field("Command", process.command.as_str())?;
    output.field("Program", program(process))?;
    if let Some(why) = &process.obscure {
        output.field("Obscure", Text(why.clone(), Tone::Attention))?;
    }
    for held in holds(process) {
        output.field("Holds", held)?;
    }
    for way in &process.attachments {
        output.field("Network", format!("{}: {}", way.kind.as_str(), way.what))?;
    }
    let says = [process.says.name.clone(), process.says.uuid.map(|uuid| uuid.to_string())];
    for claim in says.into_iter().flatten() {
        output.field("Says it is", claim)?;
    }
    let whose = if process.network_is_hosts { "the host's" } else { "not the host's" };
    output.field("Namespace", format!("network {} ({whose})", process.network))?;
    output.field("Cgroup", process.cgroup.as_str())?;
    match &process.curbed {
        Some(Curbed::Suspended) => output.field("Curbed", "it is suspended"),
        Some(Curbed::Ended) => output.field("Curbed", "it was ended"),
        Some(Curbed::Refused(why)) => {
            output.field("Curbed", Text(format!("no: {why}"), Tone::Attention))
        }
        None => Ok(()),
    }
}

fn whose(process: &ProcessView) -> Text {
    match (&process.vm, process.status.as_str()) {
        (Some(vm), _) => Text(vm.name.clone(), Tone::Good),
        (None, "unknown") => Text("unknown".to_owned(), Tone::Bad),
        (None, status) => Text(status.to_owned(), Tone::Attention),
    }
}

fn user(process: &ProcessView) -> String {
    process.user.clone().unwrap_or_else(|| process.uid.to_string())
}

fn program(process: &ProcessView) -> String {
    match &process.program {
        Some(program) if program.by == Recognised::Content => format!("{} (renamed)", program.name),
        Some(program) => program.name.clone(),
        None => "-".to_owned(),
    }
}

fn holds(process: &ProcessView) -> Vec<String> {
    let holds = &process.holds;
    let counted = [(holds.vms, "KVM VM"), (holds.vcpus, "processor")];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    let mut held: Vec<_> = counted
        .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
        .collect();
    held.extend(holds.taps.iter().map(|tap| format!("tap {}", tap.name)));
    held.extend(holds.devices.iter().cloned());
    held
}
