//! How the mode is changed.

use clap::{Args, Subcommand};

pub(super) const ENFORCE: &str = "\
Examples:
  detector enforce --dry-run                what enforcing would cut, without doing it
  detector enforce --confirm-within 60s     falls back by itself, also when you are cut off
  detector enforce confirm                  keeps it
  detector enforce rollback                 ends it at once

The kernel programs fall back by themselves when nobody confirms in time, also when the daemon is dead. \
Quarantines that verdicts have imposed meanwhile go with it, those by people never do. A restart of the \
host brings back what was confirmed last. `--dry-run` exits with 3 when there is something to cut.";

pub(super) const OBSERVE: &str = "\
Examples:
  detector observe --reason 'the switch is being replaced'

What verdicts have quarantined stays on record, and is cut off again when the host enforces again. What \
people have quarantined stays cut off. Works with the daemon dead, on the pinned maps themselves.";

pub(super) const BREAK_GLASS: &str = "\
Examples:
  detector break-glass --for 30m --reason 'incident 42: the approved VMs are cut off'
  detector enforce                          ends it early

Nothing is dropped but what people have quarantined. The kernel programs enforce again by themselves when \
the time is over, and after a restart of the host. As long as it lasts there is a critical finding. Works \
with the daemon dead, on the pinned maps themselves.";

pub(super) const MAINTENANCE: &str = "\
Examples:
  detector maintenance --for 1h --reason 'the images move to another pool'
  detector maintenance --end

What is in force stays, nothing new is quarantined by a verdict, and nothing is admitted without one. The \
mode stays what it is. A restart of the host ends it.";

#[derive(Clone, Debug, Args)]
pub struct EnforceArgs {
    /// Fall back unless `detector enforce confirm` comes within this time: one second to one day
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub confirm_within: Option<u64>,
    /// Print what enforcing would cut, and change nothing
    #[arg(long, conflicts_with_all = ["confirm_within", "reason"])]
    pub dry_run: bool,
    /// Why, for whoever finds it later
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum EnforceCommand {
    /// Keep enforcing that is provisional; with the daemon dead on the pinned maps themselves
    #[command(after_help = "Examples:\n  detector enforce confirm")]
    Confirm,
    /// End enforcing that is provisional at once; with the daemon dead on the pinned maps themselves
    #[command(after_help = "Examples:\n  detector enforce rollback")]
    Rollback,
}

#[derive(Clone, Debug, Args)]
pub struct ObserveArgs {
    /// Why, for whoever finds it later
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

#[derive(Clone, Debug, Args)]
pub struct BreakGlassArgs {
    /// How long: one second to one day
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub lasts: u64,
    /// Why, for whoever finds it later
    #[arg(long)]
    pub reason: String,
}

#[derive(Clone, Debug, Args)]
pub struct MaintenanceArgs {
    /// How long: one second to seven days
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = seconds,
        required_unless_present = "end",
        requires = "reason"
    )]
    pub lasts: Option<u64>,
    /// Why, for whoever finds it later
    #[arg(long)]
    pub reason: Option<String>,
    /// End it now
    #[arg(long, conflicts_with_all = ["lasts", "reason"])]
    pub end: bool,
}

/// A time in whole seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let span = humantime::parse_duration(text).map_err(|error| {
        format!("{error}; expected a time such as \"60s\", \"30m\" or \"1h 30m\"")
    })?;
    if span.subsec_nanos() != 0 || span.is_zero() {
        return Err("expected whole seconds, at least one".to_owned());
    }
    Ok(span.as_secs())
}
