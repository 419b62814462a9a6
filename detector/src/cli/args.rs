//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::{Shell, engine::ArgValueCompleter};

pub(super) use alert::{AlertCommand, FindingCommand};
pub(super) use clock::ClockCommand;
pub(super) use hook::{HookArgs, HookCommand};
pub(super) use mode::{BreakGlassArgs, EnforceArgs, EnforceCommand, MaintenanceArgs, ObserveArgs};
pub(super) use operations::{DetachArgs, ReadyArgs};
pub(super) use process::ProcessCommand;
pub(super) use template::{TemplateAdd, TemplateCommand};

mod alert;
mod clock;
mod hook;
mod mode;
mod operations;
mod process;
mod template;
use super::{
    audit::args::AuditCommand,
    completions::{ports, subjects, vms},
    fleet::FleetCommand,
    mitigation::MitigationCommand,
    policy::PolicyCommand,
    remediate::args::RemediateCommand,
};
use crate::logging::LogFormat;

/// Where `--help` puts the options of every command.
const GLOBAL: &str = "Options of every command";

/// Finds virtual machines that nobody approved, and quarantines them.
#[derive(Debug, Parser)]
#[command(
    name = "detector",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  detector status                    what is guarded, and what needs attention
  detector explain web1              why a VM has network or has none, and what would change that
  detector quarantine list           what is quarantined, also with the daemon dead
  detector port list --watch         what speaks on this host, as it changes

Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 there is something to report."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Configuration file [default: /etc/detector/config.toml]
    #[arg(long, global = true, help_heading = GLOBAL, env = "DETECTOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The daemon's socket, in place of the configured one
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory of the pinned maps, in place of the configured one
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    pub pins: Option<PathBuf>,
    /// How results are printed
    #[arg(long, short, global = true, help_heading = GLOBAL, value_enum, default_value_t)]
    pub output: Format,
    /// Print it again every two seconds, or as many as are said (`--watch=5`), until interrupted
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub watch: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For people with a wide terminal: more columns
    Wide,
    /// For programs: stable and documented
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    #[command(after_help = "\
Examples:
  detector run
  detector run --config /etc/detector/config.toml --mode enforce --log json

The line `ready` in the log says that the first state is in force and the socket answers. On SIGTERM
the daemon ends and leaves everything in force; on SIGHUP it reloads, as `detector reload` has it do.")]
    Run(RunArgs),
    /// Show what is guarded, and what needs attention
    #[command(after_help = "\
Examples:
  detector status
  detector status --output json | jq '.findings[].title'

Exits with 3 when findings are open.")]
    Status,
    /// Say whether the detector can do its work, whatever guests do
    #[command(after_help = operations::HEALTH)]
    Health,
    /// Say whether VMs may start: whether every bridge is gated, or verdicts are only observed
    #[command(after_help = operations::READY)]
    Ready(ReadyArgs),
    /// Look whether this host can be guarded, and say how to mend what stands in the way
    #[command(after_help = operations::DOCTOR)]
    Doctor,
    /// Take everything off this host: programs, pins, passages and forwarding entries
    #[command(after_help = operations::DETACH)]
    Detach(DetachArgs),
    /// Print metrics for Prometheus; those of the kernel also with the daemon dead
    #[command(after_help = operations::METRICS)]
    Metrics,
    /// Read configuration, policy, templates and inventory again, and say what has changed
    #[command(after_help = operations::RELOAD)]
    Reload,
    /// Carry verdicts out: for good, or until somebody has to confirm it
    #[command(args_conflicts_with_subcommands = true, after_help = mode::ENFORCE)]
    Enforce {
        #[command(flatten)]
        args: EnforceArgs,
        #[command(subcommand)]
        command: Option<EnforceCommand>,
    },
    /// Carry nothing out any more: verdicts are computed and counted, every frame goes on
    #[command(after_help = mode::OBSERVE)]
    Observe(ObserveArgs),
    /// Suspend enforcing for some time, also with the daemon dead
    #[command(after_help = mode::BREAK_GLASS)]
    BreakGlass(BreakGlassArgs),
    /// Let denials be findings only for some time
    #[command(after_help = mode::MAINTENANCE)]
    Maintenance(MaintenanceArgs),
    /// Whether the host's clock is believed, after somebody has set it
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Clock {
        #[command(subcommand)]
        command: ClockCommand,
    },
    /// Interfaces through which guests speak
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Port {
        #[command(subcommand)]
        command: PortCommand,
    },
    /// Virtual machines and the verdicts on them
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Vm {
        #[command(subcommand)]
        command: VmCommand,
    },
    /// What is cut off from the network, by verdict or by a person
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Quarantine {
        #[command(subcommand)]
        command: QuarantineCommand,
    },
    /// Approved images
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Template {
        #[command(subcommand)]
        command: TemplateCommand,
    },
    /// The rules by which VMs may join networks
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// VMs that keep what they have because too many would lose it, and what a person says of that
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Mitigation {
        #[command(subcommand)]
        command: MitigationCommand,
    },
    /// Bring VMs back that were cut off: patched, by an approved template, or replaced
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Remediate {
        #[command(subcommand)]
        command: RemediateCommand,
    },
    /// What was decided and what people did, chained and signed
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Hosts as a fleet: keys and credentials, and the policy of all of them
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Fleet {
        #[command(subcommand)]
        command: FleetCommand,
    },
    /// What an administrator must know
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Finding {
        #[command(subcommand)]
        command: FindingCommand,
    },
    /// How administrators are told of findings
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Alert {
        #[command(subcommand)]
        command: AlertCommand,
    },
    /// Processes of the host that are virtual machines, whoever started them
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Process {
        #[command(subcommand)]
        command: ProcessCommand,
    },
    /// Watch ports, their frames a second, and what is refused
    #[command(after_help = "\
Examples:
  detector top
  detector top --interval 5

Keys: q quits, s changes the order, a shows uplinks and bridges too, arrows scroll. With the daemon dead it \
shows what the pinned maps hold.")]
    Top {
        /// Seconds between two looks
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// Say why a VM, a port or a MAC is treated as it is, and what would change that
    #[command(after_help = "\
Examples:
  detector explain web1
  detector explain vnet3
  detector explain 52:54:00:12:34:56

Exits with 3 when it is not granted.")]
    Explain {
        /// Name or UUID of a VM, name of a port, or a MAC
        #[arg(add = ArgValueCompleter::new(subjects))]
        subject: String,
    },
    /// Answer a hook of a VM manager
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Hook {
        #[command(subcommand)]
        command: HookCommand,
    },
    /// Print the completions for a shell
    #[command(after_help = "\
Examples:
  detector completions bash > /etc/bash_completion.d/detector
  detector completions zsh > /usr/share/zsh/site-functions/_detector")]
    Completions { shell: Shell },
    /// Print the manual page, or write one for each command
    #[command(after_help = "\
Examples:
  detector man | man -l -
  detector man --directory /usr/share/man/man8")]
    Man {
        /// Write one page for each command to this directory
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Observe or enforce from this start on, whatever was in force or confirmed before
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t)]
    pub log: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Compute and count verdicts, let every frame go on
    Observe,
    /// Carry verdicts out
    Enforce,
}

#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// List the interfaces in scope; reads the pinned maps when the daemon does not answer
    #[command(after_help = "\
Examples:
  detector port list
  detector port list --output wide --watch
  detector port list --output json")]
    List,
    /// Show one with its identities, counters and what it claimed
    #[command(after_help = "Examples:\n  detector port show vnet3")]
    Show {
        /// Interface name or ifindex
        #[arg(add = ArgValueCompleter::new(ports))]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// List the VMs of all inventories
    #[command(after_help = "Examples:\n  detector vm list\n  detector vm list --output json")]
    List,
    /// Show one with its requirements and media
    #[command(after_help = "Examples:\n  detector vm show web1")]
    Show {
        /// Name or UUID
        #[arg(add = ArgValueCompleter::new(vms))]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List what is quarantined; reads the pinned maps when the daemon does not answer
    #[command(after_help = "Examples:\n  detector quarantine list")]
    List,
    /// Show one quarantine
    #[command(after_help = "Examples:\n  detector quarantine show vm web1")]
    Show(Target),
    /// Cut a VM, a port or a MAC off, in every mode, until it is released
    #[command(after_help = "\
Examples:
  detector quarantine add vm web1 --reason 'incident 42'
  detector quarantine add mac 52:54:00:12:34:56 --reason 'seen on two hosts'
  detector quarantine add vm web1 --mode sandbox --reason 'to be looked at'

Ports and MACs are cut off with the daemon dead too, at once and by the pinned maps.")]
    Add {
        #[command(flatten)]
        target: Target,
        /// Why, for whoever finds it later
        #[arg(long)]
        reason: String,
        /// What becomes of its ports [default: the configured policy.quarantine]
        #[arg(long, value_enum)]
        mode: Option<QuarantineModeArg>,
    },
    /// Lift a quarantine; refused while the VM still does not meet the policy
    #[command(after_help = "\
Examples:
  detector quarantine release vm web1
  detector quarantine release port vnet3

With the daemon dead, what a person imposed can be lifted; what a verdict imposed cannot.")]
    Release(Target),
    /// Print every quarantine as it is imposed and lifted, until interrupted
    #[command(after_help = "Examples:\n  detector quarantine watch --output json")]
    Watch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QuarantineModeArg {
    /// They neither send nor receive
    Drop,
    /// They speak with the sandbox only
    Sandbox,
}

#[derive(Clone, Debug, Args)]
pub struct Target {
    /// What it is
    #[arg(value_enum)]
    pub kind: TargetKind,
    /// Interface name, MAC, or name or UUID of a VM
    #[arg(add = ArgValueCompleter::new(subjects))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetKind {
    Port,
    Mac,
    Vm,
}
