use std::time::Duration;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum FindingCommand {
    /// List the open findings, the most severe first
    #[command(after_help = "Examples:\n  detector finding list --output json")]
    List,
    /// Show one with its evidence, what it means and what to do about it
    #[command(after_help = "Examples:\n  detector finding show 3f9a01c2d4")]
    Show {
        /// Identifier, as `finding list` shows it
        id: String,
    },
    /// Say that you see to a finding: receivers of alerts are told so, until it ends
    #[command(after_help = "\
Examples:
  detector finding ack 3f9a01c2d4 --reason 'I am asking its owner'")]
    Ack {
        /// Identifier, as `finding list` shows it
        id: String,
        /// Why, for whoever comes next
        #[arg(long)]
        reason: String,
    },
    /// Have nobody told of a finding or of a kind, for some time
    #[command(after_help = "\
Examples:
  detector finding suppress 3f9a01c2d4 --for 2h --reason 'maintenance, ticket 42'
  detector finding suppress deprecated-template --for 30d --reason 'being replaced'

It stays in lists. What is still open when the time is over is told of then.")]
    Suppress {
        /// Identifier of a finding, or the name of a kind
        what: String,
        /// For how long: 30m, 2h, 7d; at most 366 days
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        lasts: Duration,
        /// Why, for whoever comes next
        #[arg(long)]
        reason: String,
    },
    /// End a suppression
    #[command(after_help = "Examples:\n  detector finding unsuppress deprecated-template")]
    Unsuppress {
        /// Identifier of a finding, or the name of a kind
        what: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// Show each receiver of alerts: what waits for it, and why it does not take it
    #[command(after_help = "\
Examples:
  detector alert status
  detector alert status --output json | jq '.sinks[] | select(.failing_since)'

Exits with 3 when a receiver fails, or alerts are not kept.")]
    Status,
    /// List what waits to be delivered, in order
    #[command(after_help = "Examples:\n  detector alert list")]
    List,
    /// Send a test alert to a receiver, or to all, and say what happened
    #[command(after_help = "\
Examples:
  detector alert test
  detector alert test siem

It goes past what waits. Exits with 1 when one does not take it.")]
    Test {
        /// Name of the receiver, as it is configured; all of them when it is left out
        sink: Option<String>,
    },
}
