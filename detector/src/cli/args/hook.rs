//! What hooks of VM managers ask.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// Answer libvirt's qemu hook: at a start, wait for the verdict on the VM
    #[command(after_help = "\
Examples:
  detector hook qemu \"$@\"          in /etc/libvirt/hooks/qemu
  detector hook qemu --uri qemu+unix:///system?socket=/run/second/libvirt-sock \"$@\"

The domain's XML is read from standard input. Exits with 1 when the VM may not start.")]
    Qemu(HookArgs),
    /// Answer libvirt's lxc hook: at a start, wait for the verdict on the container
    #[command(after_help = "\
Examples:
  detector hook lxc \"$@\"           in /etc/libvirt/hooks/lxc

The domain's XML is read from standard input. Exits with 1 when the container may not start.")]
    Lxc(HookArgs),
}

#[derive(Debug, Args)]
pub struct HookArgs {
    /// The connection that lists the VM [default: the first of this driver in `libvirt.uris`]
    #[arg(long, value_name = "URI")]
    pub uri: Option<String>,
    /// Name of the VM
    pub name: String,
    /// What libvirt does (`start`, `stopped`, …)
    pub op: String,
    /// The part of it (`begin`, `end`)
    #[arg(default_value = "-")]
    pub sub_op: String,
    /// Anything else that libvirt passes
    pub rest: Vec<String>,
}
