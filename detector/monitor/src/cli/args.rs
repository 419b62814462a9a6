use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use detector_core::api::Role;

use crate::config;

/// Shows what the detector has found, on one host or in a fleet, and has people act on it
#[derive(Debug, Parser)]
#[command(name = "detector-monitor", version, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Args)]
pub(super) struct Global {
    /// Configuration file [default: /etc/detector/monitor.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// This host alone, by its daemon's socket, whatever the configuration says
    #[arg(long, global = true)]
    pub(super) local: bool,
    /// The daemon's control socket, with --local
    #[arg(long, global = true, value_name = "PATH", default_value = config::SOCKET)]
    pub(super) socket: PathBuf,
    /// How results are printed
    #[arg(long, short, global = true, value_enum, default_value = "table")]
    pub(super) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve the page and the JSON interface
    Run,
    /// Everything at a glance; exits with 3 when something is not well
    Status,
    /// The hosts, and how they are
    Hosts,
    /// The VMs, and their security state
    Vms(VmArgs),
    /// What administrators must know, the most severe first
    Findings,
    /// What another policy would change for the VMs of all hosts. Nothing is done
    ///
    /// Exits with 3 when a VM would be judged otherwise, and with 1 when a host does not say.
    #[command(after_help = "\
Examples:
  detector-monitor plan policy.cedar
  detector-monitor plan prod-7.bundle
  detector-monitor plan policy.cedar --output json | jq '.hosts[] | select(.denied > 0) | .host'

Of a bundle it is the policy alone: templates that come or go with it are not looked at.")]
    Plan(PlanArgs),
    /// Who may log in
    Account {
        #[command(subcommand)]
        command: AccountCommand,
    },
    /// Print the description of the JSON interface
    Openapi,
    /// Print the completions of a shell
    Completions { shell: Shell },
    /// Write manual pages
    #[command(hide = true)]
    Man {
        #[arg(long)]
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct VmArgs {
    /// Part of a name, a UUID, a MAC, an address or a template
    #[arg(default_value = "")]
    pub(super) search: String,
    /// Of one security state only: approved, pending, denied, quarantined or off
    #[arg(long, default_value = "")]
    pub(super) status: String,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// A policy in Cedar, or a bundle of the fleet
    #[arg(value_name = "FILE")]
    pub(super) policy: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Add an account, or give it another role or password, which is read from standard input
    Add {
        name: String,
        /// What they may do
        #[arg(long, value_enum)]
        role: RoleArg,
        /// They have no password: the reverse proxy says who they are
        #[arg(long)]
        no_password: bool,
    },
    /// Remove an account
    Remove { name: String },
    /// List the accounts
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleArg {
    /// Looks
    View,
    /// Also cuts off and lifts, starts and ends remediations
    Operate,
    /// Also approves what a VM boots from
    Administer,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::View => Self::View,
            RoleArg::Operate => Self::Operate,
            RoleArg::Administer => Self::Administer,
        }
    }
}
