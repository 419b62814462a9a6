//! Changing the mode, with the daemon and without.

pub(super) mod preview;

use std::io::Write;

use anyhow::{Context, Result, bail};
use detector_common::settings::Cause;
use detector_core::model::{Deed, ModeRequest, ObservedMode, Timestamp};
use serde::Serialize;

use super::{
    Done, Global,
    args::{BreakGlassArgs, EnforceArgs, EnforceCommand, MaintenanceArgs, ObserveArgs},
    ask::{self, ask, try_ask, unexpected},
    audit::recorded::on_record,
    escape::escape,
    output::{Output, Text, Tone},
    pins::Origin,
};
use crate::{
    api::{
        CallError, Reply, Request,
        view::{ModeDetail, ModeView},
    },
    audit::Subject,
    bpf::Inspector,
    daemon::actions::mode_action,
    mode::{Kept, ModeFile},
};

pub(super) fn enforce(
    global: &Global,
    args: &EnforceArgs,
    command: Option<EnforceCommand>,
) -> Result<Done> {
    if args.dry_run {
        return preview::run(global);
    }
    let confirm_within = args.confirm_within;
    let request = match command {
        Some(EnforceCommand::Confirm) => ModeRequest::Confirm {},
        Some(EnforceCommand::Rollback) => ModeRequest::Rollback {},
        None => ModeRequest::Enforce { confirm_within },
    };
    change(global, request, &args.reason)
}

pub(super) fn observe(global: &Global, args: &ObserveArgs) -> Result<Done> {
    change(global, ModeRequest::Observe {}, &args.reason)
}

pub(super) fn break_glass(global: &Global, args: &BreakGlassArgs) -> Result<Done> {
    change(global, ModeRequest::BreakGlass { lasts: args.lasts }, &args.reason)
}

pub(super) fn maintenance(global: &Global, args: &MaintenanceArgs) -> Result<Done> {
    let request = match args.lasts {
        Some(lasts) => ModeRequest::Maintenance { lasts },
        None => ModeRequest::EndMaintenance {},
    };
    change(global, request, args.reason.as_deref().unwrap_or_default())
}

fn change(global: &Global, change: ModeRequest, reason: &str) -> Result<Done> {
    let request = Request::ModeChange { change, reason: reason.to_owned() };
    let mut output = Output::new(global);
    if !works_without_daemon(change) {
        return match ask(global, request)? {
            Reply::Mode(mode) => changed(&mut output, Origin::Daemon, &mode),
            other => unexpected(&other),
        };
    }
    match try_ask(global, request)? {
        Ok(Reply::Mode(mode)) => changed(&mut output, Origin::Daemon, &mode),
        Ok(other) => unexpected(&other),
        Err(error) => {
            let mode = on_the_pins(global, change, reason, error)?;
            changed(&mut output, Origin::Pins, &ModeDetail::from(&mode))
        }
    }
}

/// Whether whoever is cut off has to be able to do it though the daemon is dead. To begin to enforce is not
/// among that: nobody would judge what comes.
const fn works_without_daemon(change: ModeRequest) -> bool {
    match change {
        ModeRequest::Confirm {}
        | ModeRequest::Rollback {}
        | ModeRequest::Observe {}
        | ModeRequest::BreakGlass { .. } => true,
        ModeRequest::Enforce { .. }
        | ModeRequest::Maintenance { .. }
        | ModeRequest::EndMaintenance {} => false,
    }
}

/// Changes the pinned mode in place of a daemon that does not answer, and says so. One that has refused is not
/// gone round, and neither is one that lives and is slow: it holds the pins.
fn on_the_pins(
    global: &Global,
    change: ModeRequest,
    reason: &str,
    error: CallError,
) -> Result<ObservedMode> {
    if !matches!(error, CallError::Unreachable { .. } | CallError::Broken(_)) {
        return Err(error.into());
    }
    let longest = ModeRequest::LONGEST_REASON;
    if reason.len() > longest {
        bail!("--reason is longer than {longest} bytes: say it in fewer words");
    }
    let action = (mode_action(&change), Subject::new("host", "mode"), reason);
    on_record(global, action, || change_pins(global, change, reason, error))
}

fn change_pins(
    global: &Global,
    change: ModeRequest,
    reason: &str,
    error: CallError,
) -> Result<ObservedMode> {
    let why = format!("{:#}", anyhow::Error::from(error));
    let config = ask::config(global)?;
    let since = jiff::Timestamp::now().as_millisecond();
    let since = Timestamp(u64::try_from(since).unwrap_or_default());
    let uid = nix::unistd::getuid().as_raw();
    let deed = Deed::new(since, uid, Cause::Operator, reason);
    let mode = Inspector::change_mode(&config.paths.pins, change, deed)
        .with_context(|| format!("{why}; without it"))?;
    eprintln!("detector: {}; the pinned maps were changed themselves", escape(&why));
    if let Some(kept) = Kept::of(&mode.record)
        && let Err(why) = ModeFile::new(&config.paths.state).write(&kept)
    {
        eprintln!(
            "detector: a restart of the host may lead to another mode, since this one cannot be kept: {}",
            escape(&why)
        );
    }
    Ok(mode)
}

fn changed<W: Write>(output: &mut Output<W>, source: Origin, mode: &ModeDetail) -> Result<Done> {
    if output.is_json() {
        #[derive(Serialize)]
        struct Changed<'a> {
            source: Origin,
            #[serde(flatten)]
            mode: &'a ModeDetail,
        }
        output.json(&Changed { source, mode })?;
        return Ok(Done::Fine);
    }
    print(output, mode)?;
    if mode.standing == "provisional" {
        output.line("")?;
        output.line("Keep it:     detector enforce confirm")?;
        output.line("End it:      detector enforce rollback")?;
    }
    Ok(Done::Fine)
}

/// The mode, who wanted it, and when it ends.
pub(super) fn print<W: Write>(output: &mut Output<W>, mode: &ModeDetail) -> Result<()> {
    let ends = |output: &Output<W>, until: Option<jiff::Timestamp>| {
        until.map_or_else(String::new, |until| format!("until {until} ({})", output.ahead(until)))
    };
    let until = ends(output, mode.until);
    let text = match (mode.mode, mode.standing.as_str()) {
        (ModeView::Enforce, "provisional") => Text(
            format!("enforce, provisionally {until}, unless confirmed: then observe"),
            Tone::Attention,
        ),
        (ModeView::Enforce, _) => Text("enforce".into(), Tone::Good),
        (ModeView::Observe, "break-glass") => Text(
            format!(
                "observe, by break-glass {until}: nothing is dropped but what an operator quarantines"
            ),
            Tone::Bad,
        ),
        (ModeView::Observe, _) => Text(
            "observe: nothing is dropped but what an operator quarantines".into(),
            Tone::Attention,
        ),
        (ModeView::None, _) => Text("none yet".into(), Tone::Attention),
    };
    output.field("Mode", text)?;
    let who = match mode.cause.as_str() {
        "operator" => format!("by uid {}", mode.uid),
        "lapsed" => format!("when the time that uid {} had set was over", mode.uid),
        _ => "as configured".to_owned(),
    };
    let since = format!("{} ({}), {who}", mode.since, output.ago(mode.since));
    output.field("Since", since)?;
    if !mode.reason.is_empty() {
        output.field("Reason", mode.reason.as_str())?;
    }
    if let Some(term) = &mode.maintenance {
        let until = ends(output, Some(term.until));
        let text = format!("{until}, by uid {}: {}", term.uid, term.reason);
        output.field("Maintenance", Text(text, Tone::Attention))?;
    }
    Ok(())
}
