use std::{ffi::OsStr, path::PathBuf};

use clap::{Args, Subcommand};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};

use crate::cli::completions::templates;

#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// List the templates; reads the manifests when the daemon does not answer
    #[command(after_help = "Examples:\n  detector template list")]
    List,
    /// Show one with its images and the VMs that descend from it
    #[command(after_help = "\
Examples:
  detector template show debian-12
  detector template show debian-12@2026.11")]
    Show {
        /// ID, or ID@VERSION where it has several versions (ID@ for the one without)
        #[arg(value_name = "TEMPLATE", add = ArgValueCompleter::new(names))]
        id: String,
    },
    /// Register images as a template: hash them and write a manifest
    #[command(after_help = "\
Examples:
  detector template add debian-12 --version 2026.11 --disk /images/debian-12.qcow2
  detector template add lab --kernel vmlinuz --initrd initrd.img --approve
  detector template add debian-12 --version 2026.12 --disk new.qcow2 --dry-run > debian-12.toml

It is a draft, which admits nobody, until it is approved.")]
    Add(Box<TemplateAdd>),
    /// Approve a template: its VMs are admitted
    #[command(after_help = "Examples:\n  detector template approve debian-12@2026.11")]
    Approve {
        /// ID, or ID@VERSION where it has several versions
        #[arg(add = ArgValueCompleter::new(names))]
        template: String,
        /// Why, for whoever reads it later
        #[arg(long)]
        reason: Option<String>,
    },
    /// Deprecate a template: its VMs are admitted, with a finding
    #[command(after_help = "\
Examples:
  detector template deprecate debian-12@2026.10 --reason 'superseded by 2026.11'")]
    Deprecate {
        /// ID, or ID@VERSION where it has several versions
        #[arg(add = ArgValueCompleter::new(names))]
        template: String,
        /// Why, for whoever reads it later
        #[arg(long)]
        reason: Option<String>,
    },
    /// Revoke a template: VMs of it are not admitted any more, and those that run are dealt with as
    /// the policy says, within seconds
    #[command(after_help = "\
Examples:
  detector template revoke debian-12@2026.10 --reason 'CVE-2026-1234 in the SSH server'

What becomes of VMs that run: policy.revoked and policy.revoked_grace of the configuration.")]
    Revoke {
        /// ID, or ID@VERSION where it has several versions
        #[arg(add = ArgValueCompleter::new(names))]
        template: String,
        /// Why, for whoever reads it later
        #[arg(long)]
        reason: String,
    },
    /// Hash the recorded images of templates again, or an image to say which template it matches;
    /// needs no daemon
    #[command(after_help = "\
Examples:
  detector template verify                                      every template
  detector template verify debian-12@2026.11                    one
  detector template verify /var/lib/libvirt/images/web1.qcow2   an image: which template has it?

Exits with 3 when an image differs, is missing or cannot be read, or when no template in force matches.")]
    Verify {
        /// Template (ID or ID@VERSION), or an image file or an overlay of one
        #[arg(add = ArgValueCompleter::new(names_and_files))]
        what: Option<PathBuf>,
        /// How the hypervisor reads the image: qcow2 or raw
        #[arg(long, requires = "what")]
        format: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct TemplateAdd {
    /// Id of the template: letters, digits and . _ + : @ / -
    pub id: String,
    /// Version of it; each has a manifest and a status of its own
    #[arg(long)]
    pub version: Option<String>,
    /// Operating system, for people
    #[arg(long)]
    pub os: Option<String>,
    /// When its approval ends, such as 2027-06-30T00:00:00Z
    #[arg(long, value_name = "MOMENT")]
    pub expires: Option<jiff::Timestamp>,
    /// Image of a disk, qcow2 or raw; each image option may be given several times
    #[arg(long, value_name = "PATH", help_heading = "Images")]
    pub disk: Vec<PathBuf>,
    /// Image of a CD-ROM
    #[arg(long, value_name = "PATH", help_heading = "Images")]
    pub cdrom: Vec<PathBuf>,
    /// Image of a floppy disk
    #[arg(long, value_name = "PATH", help_heading = "Images")]
    pub floppy: Vec<PathBuf>,
    /// Kernel of a direct boot
    #[arg(long, value_name = "PATH", help_heading = "Images")]
    pub kernel: Vec<PathBuf>,
    /// Initial RAM disk of a direct boot
    #[arg(long, value_name = "PATH", help_heading = "Images")]
    pub initrd: Vec<PathBuf>,
    /// Firmware that VMs name
    #[arg(long, value_name = "PATH", help_heading = "Images")]
    pub firmware: Vec<PathBuf>,
    /// Approve it at once
    #[arg(long)]
    pub approve: bool,
    /// Why it has this status
    #[arg(long)]
    pub reason: Option<String>,
    /// Do not record where the images are kept
    #[arg(long)]
    pub no_paths: bool,
    /// Print the manifest in place of writing it
    #[arg(long)]
    pub dry_run: bool,
}

/// Names of templates, for the shell to complete.
fn names(start: &OsStr) -> Vec<CompletionCandidate> {
    let start = start.to_string_lossy();
    let names = templates().into_iter().filter(|(name, _)| name.starts_with(&*start));
    names.map(|(name, status)| CompletionCandidate::new(name).help(Some(status.into()))).collect()
}

fn names_and_files(start: &OsStr) -> Vec<CompletionCandidate> {
    let mut all = names(start);
    all.extend(PathCompleter::any().complete(start));
    all
}
