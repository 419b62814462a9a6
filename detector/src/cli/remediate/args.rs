//! What can be typed after `detector remediate`.

use std::ffi::OsStr;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use detector_core::model::Digest;

use crate::cli::completions::{templates, vms};

#[derive(Debug, Subcommand)]
pub enum RemediateCommand {
    /// Show which steps would bring a VM back, and what each does; nothing is done
    #[command(after_help = "\
Examples:
  detector remediate plan web1
  detector remediate plan web1 --outcome template --template web
  detector remediate plan web1 --output json | jq -r '.steps[].effect'")]
    Plan {
        /// Name or UUID
        #[arg(add = ArgValueCompleter::new(vms))]
        vm: String,
        #[command(flatten)]
        way: Way,
    },
    /// Start to bring a VM back: it is quarantined, and released once it passes; or try again what has failed
    #[command(after_help = "\
Examples:
  detector remediate start web1 --outcome patched --reason 'ticket 42'
  detector remediate start web1 --outcome patched --provisioner base --reason 'ticket 42'
  detector remediate start web1 --outcome template --template web --reason 'reviewed by ann'
  detector remediate start web1 --outcome replaced --template debian-12 --reason 'ticket 42'

With `--outcome template` what the VM boots from is registered as a template, with its digests and a security
profile as the VM meets it, and every quarantined VM of the same images comes back. Where manifests have to be
signed it prints what to sign, and exits with 3.")]
    Start {
        /// Name or UUID
        #[arg(add = ArgValueCompleter::new(vms))]
        vm: String,
        #[command(flatten)]
        way: Way,
        /// Why, for whoever reads it later
        #[arg(long)]
        reason: String,
    },
    /// Show how far remediations are: all of them, or one with its steps, approvals and past
    #[command(after_help = "\
Examples:
  detector remediate status
  detector remediate status web1 --watch
  detector remediate status web1 --output json | jq -r '.remediations[0].waits'")]
    Status {
        /// Name or UUID
        #[arg(add = ArgValueCompleter::new(vms))]
        vm: Option<String>,
    },
    /// Approve that a VM comes back with what it boots from, by the digests that you have looked at, or is replaced
    #[command(after_help = "\
Examples:
  detector remediate status web1                     shows the digests
  detector remediate approve web1 --sha256 3f9a… --reason 'patched as in ticket 42'
  detector remediate approve web2 --reason 'ticket 43'   of --outcome replaced: there are no digests to name

It holds for this VM alone, and for these digests only. Where two have to approve, whoever has started the
remediation is neither of them.")]
    Approve {
        /// Name or UUID
        #[arg(add = ArgValueCompleter::new(vms))]
        vm: String,
        /// SHA-256 of what it boots from and no template has; may be given several times
        #[arg(long, value_name = "DIGEST")]
        sha256: Vec<Digest>,
        /// Why, for whoever reads it later
        #[arg(long)]
        reason: String,
    },
    /// End a remediation: the VM is in quarantine as it was before, and nothing of it is lost
    #[command(after_help = "Examples:\n  detector remediate abort web1 --reason 'the wrong VM'")]
    Abort {
        /// Name or UUID
        #[arg(add = ArgValueCompleter::new(vms))]
        vm: String,
        /// Why, for whoever reads it later
        #[arg(long)]
        reason: String,
    },
    /// Say that a VM does not come back: it stays in quarantine, and what was approved for it is void
    #[command(after_help = "Examples:\n  detector remediate reject web1 --reason 'nobody owns it'")]
    Reject {
        /// Name or UUID
        #[arg(add = ArgValueCompleter::new(vms))]
        vm: String,
        /// Why, for whoever reads it later
        #[arg(long)]
        reason: String,
    },
}

/// How a VM is to come back.
#[derive(Clone, Debug, Args)]
pub struct Way {
    /// How it is to come back
    #[arg(long, value_enum, default_value_t)]
    pub outcome: OutcomeArg,
    /// The template that its images become, or that a VM in its place is made from
    #[arg(
        long,
        value_name = "ID",
        required_if_eq_any([("outcome", "template"), ("outcome", "replaced")]),
        add = ArgValueCompleter::new(template_names)
    )]
    pub template: Option<String>,
    /// What changes its image; without one a person does
    #[arg(long, value_name = "NAME")]
    pub provisioner: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutcomeArg {
    /// Its image is changed, and approved for it alone
    #[default]
    Patched,
    /// Its image becomes an approved template
    Template,
    /// A VM of an approved template takes its place
    Replaced,
}

/// Names of templates, for the shell to complete.
fn template_names(start: &OsStr) -> Vec<CompletionCandidate> {
    let start = start.to_string_lossy();
    let names = templates().into_iter().filter(|(name, _)| name.starts_with(&*start));
    names.map(|(name, status)| CompletionCandidate::new(name).help(Some(status.into()))).collect()
}
