//! The host's clock.

use clap::Subcommand;

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ClockCommand {
    /// Show what the clock says, and whether that is believed
    #[command(after_help = "\
Examples:
  detector clock show
  detector clock show --output json | jq .doubted

Exits with 3 when the clock is doubted.")]
    Show,
    /// Say that the clock is right as it is, after somebody has set it
    #[command(after_help = "\
Examples:
  detector clock confirm --reason 'NTP was down for a month, compared with the wall clock'

A clock that jumps is doubted, since whoever sets it decides what has expired: until it is set back, or \
has been kept in step with others for five minutes, dates in manifests count by both times, so that \
nobody is cut off by it and nobody new is admitted. From this word on the clock alone counts: VMs whose \
template has expired by it are cut off. Only root and the daemon's own user may say so; who has, and \
why, is in the log and in `detector clock show`.")]
    Confirm {
        /// Why it is right, for whoever finds it later
        #[arg(long)]
        reason: String,
    },
}
