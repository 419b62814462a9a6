mod on_pins;

use std::io::Write;

use anyhow::Result;
use detector_core::model::QuarantineTarget;
use serde::Serialize;

use super::{
    Done, Global,
    args::{QuarantineCommand, QuarantineModeArg, Target, TargetKind},
    ask::{socket, try_ask, unexpected},
    output::{Output, Text, Tone},
    pins::{self, Origin},
};
use crate::api::{
    Client, Reply, Request,
    client::TIMEOUT,
    schema::{ModeSpec, TargetSpec},
    view::{QuarantineChange, QuarantineView},
};

pub(super) fn run(global: &Global, command: &QuarantineCommand) -> Result<Done> {
    let mut output = Output::new(global);
    match command {
        QuarantineCommand::List => {
            let (origin, quarantines) = match try_ask(global, Request::QuarantineList {})? {
                Ok(Reply::Quarantines(quarantines)) => (Origin::Daemon, quarantines),
                Ok(other) => return unexpected(&other),
                Err(error) => (Origin::Pins, pins::instead(global, error)?.quarantines),
            };
            list(&mut output, origin, &quarantines)?;
        }
        QuarantineCommand::Show(target) => {
            let request = Request::QuarantineShow { target: spec(target) };
            let (origin, quarantine) = match try_ask(global, request)? {
                Ok(Reply::Quarantine(quarantine)) => (Origin::Daemon, quarantine),
                Ok(other) => return unexpected(&other),
                Err(error) => {
                    (Origin::Pins, pins::instead(global, error)?.quarantine(&target.name)?)
                }
            };
            show(&mut output, origin, &quarantine)?;
        }
        QuarantineCommand::Add { target, reason, mode } => {
            let request = Request::QuarantineAdd {
                target: spec(target),
                reason: reason.clone(),
                mode: mode.map(|mode| match mode {
                    QuarantineModeArg::Drop => ModeSpec::Drop,
                    QuarantineModeArg::Sandbox => ModeSpec::Sandbox,
                }),
            };
            let (origin, quarantine) = match try_ask(global, request)? {
                Ok(Reply::Quarantine(quarantine)) => (Origin::Daemon, quarantine),
                Ok(other) => return unexpected(&other),
                Err(error) => (Origin::Pins, on_pins::add(global, error, target, reason, *mode)?),
            };
            show(&mut output, origin, &quarantine)?;
        }
        QuarantineCommand::Release(target) => {
            let request =
                Request::QuarantineRelease { target: spec(target), reason: String::new() };
            let (source, released) = match try_ask(global, request)? {
                Ok(Reply::Released(released)) => (Origin::Daemon, released),
                Ok(other) => return unexpected(&other),
                Err(error) => (Origin::Pins, on_pins::release(global, error, target)?),
            };
            #[derive(Serialize)]
            struct Released {
                source: Origin,
                released: QuarantineTarget,
            }
            if output.is_json() {
                output.json(&Released { source, released })?;
            } else {
                output.field("Released", target.name.as_str())?;
            }
        }
        QuarantineCommand::Watch => watch(global, &mut output)?,
    }
    Ok(Done::Fine)
}

fn watch(global: &Global, output: &mut Output) -> Result<()> {
    let mut client = Client::connect(&socket(global)?, TIMEOUT)?;
    let mut reply = client.call(Request::QuarantineWatch {})?;
    client.wait_forever()?;
    loop {
        match reply {
            Reply::Quarantines(quarantines) => {
                for quarantine in quarantines {
                    changed(output, &QuarantineChange { imposed: true, quarantine })?;
                }
            }
            Reply::QuarantineChange(change) => changed(output, &change)?,
            other => return unexpected(&other),
        }
        reply = client.receive()?;
    }
}

fn changed<W: Write>(output: &mut Output<W>, change: &QuarantineChange) -> Result<()> {
    if output.is_json() {
        return output.json_line(change);
    }
    let (word, tone) =
        if change.imposed { ("quarantined", Tone::Bad) } else { ("released", Tone::Good) };
    let word = output.toned(&format!("{word:<11}"), tone);
    let view = &change.quarantine;
    let text = super::escape::escape(&format!("{} {}", kind(&view.target), view.name));
    output.line(&format!("{word} {text}: {}", super::escape::escape(&view.note)))
}

pub(super) fn list<W: Write>(
    output: &mut Output<W>,
    source: Origin,
    quarantines: &[QuarantineView],
) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct List<'a> {
            source: Origin,
            quarantines: &'a [QuarantineView],
        }
        return output.json(&List { source, quarantines });
    }
    let rows: Vec<_> = quarantines
        .iter()
        .map(|quarantine| {
            let more = vec![quarantine.since.to_string().into(), quarantine.uid.to_string().into()];
            let row = vec![
                kind(&quarantine.target).into(),
                quarantine.name.as_str().into(),
                cause(quarantine),
                quarantine.mode.as_str().into(),
                output.ago(quarantine.since).into(),
                quarantine.note.as_str().into(),
            ];
            (row, more)
        })
        .collect();
    let header = ["ON", "NAME", "CAUSE", "MODE", "SINCE", "WHY"];
    output.wide_table(&header, &["AT", "UID"], rows)
}

fn show<W: Write>(
    output: &mut Output<W>,
    source: Origin,
    quarantine: &QuarantineView,
) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct Show<'a> {
            source: Origin,
            #[serde(flatten)]
            quarantine: &'a QuarantineView,
        }
        return output.json(&Show { source, quarantine });
    }
    output.field("Quarantined", format!("{} {}", kind(&quarantine.target), quarantine.name))?;
    output.field("Cause", cause(quarantine))?;
    output.field("Mode", mode(quarantine))?;
    let since = format!("{} ({})", quarantine.since, output.ago(quarantine.since));
    output.field("Since", since)?;
    output.field("Why", quarantine.note.as_str())
}

fn cause(quarantine: &QuarantineView) -> Text {
    match quarantine.cause.as_str() {
        "operator" => format!("operator (uid {})", quarantine.uid).into(),
        other => other.into(),
    }
}

fn mode(quarantine: &QuarantineView) -> &'static str {
    match quarantine.mode.as_str() {
        "sandbox" => "sandbox: it speaks with the sandbox only",
        _ => "drop: it neither sends nor receives",
    }
}

pub(super) fn kind(target: &QuarantineTarget) -> &'static str {
    match target {
        QuarantineTarget::Port { .. } => "port",
        QuarantineTarget::Mac(_) => "mac",
        QuarantineTarget::Vm(_) => "vm",
    }
}

fn spec(target: &Target) -> TargetSpec {
    let name = target.name.clone();
    match target.kind {
        TargetKind::Port => TargetSpec::Port(name),
        TargetKind::Mac => TargetSpec::Mac(name),
        TargetKind::Vm => TargetSpec::Vm(name),
    }
}
