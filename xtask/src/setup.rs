//! `cargo xtask setup`: installs what is missing, in pinned versions, and is quick when nothing is.

mod bpf_linker;
pub(crate) mod cargo_deny;
mod ebpf_toolchain;
mod guest_agent;
mod guest_kernel;
pub(crate) mod kernels;
mod packages;
mod pins;
pub(crate) mod tools;
mod unpacked;

pub(crate) use ebpf_toolchain::Toolchain;
pub(crate) use guest_kernel::GuestKernel;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::steps::{Outcome, Steps};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to prepare for
    #[arg(value_enum, default_value = "lab")]
    profile: Profile,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Building everything, the kernel programs too
    Build,
    /// What the unit tests call as well
    Unit,
    /// The lab as well: libvirt, QEMU, a guest kernel
    Lab,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure(args.profile)
}

/// Brings the machine to what the profile needs.
pub(crate) fn ensure(profile: Profile) -> Result<()> {
    let mut steps = Steps::default();
    let route = ebpf_toolchain::choose();
    let missing = packages::missing(profile, route)?;
    if !missing.is_empty() {
        steps.quiet(&format!("system packages: {}", missing.join(" ")), || {
            packages::install(&missing).map(Outcome::Done)
        })?;
    }
    let toolchain = ebpf_toolchain::locate(route)?;
    if !bpf_linker::is_installed()? {
        steps.quiet(&format!("bpf-linker {}", pins::BPF_LINKER), || {
            bpf_linker::install(&toolchain).map(|()| Outcome::done())
        })?;
    }
    if !Path::new("/sys/fs/bpf").exists() {
        bail!("this kernel has no /sys/fs/bpf: it needs CONFIG_BPF_SYSCALL");
    }
    if profile >= Profile::Lab {
        if !bpffs_is_mounted()? {
            steps.quiet("mount bpffs", mount_bpffs)?;
        }
        if !GuestKernel::is_unpacked() {
            steps.quiet("kernel for the guests", || guest_kernel::fetch().map(Outcome::Done))?;
        }
        if !guest_agent::is_unpacked() {
            steps.quiet("agent for a guest", || guest_agent::fetch().map(Outcome::Done))?;
        }
    }
    Ok(())
}

fn bpffs_is_mounted() -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().any(|l| l.split(' ').nth(1) == Some("/sys/fs/bpf")))
}

fn mount_bpffs() -> Result<Outcome> {
    if !process::is_root() {
        bail!("bpffs is not mounted, and only root can: mount -t bpf bpf /sys/fs/bpf");
    }
    process::quiet(Command::new("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))?;
    Ok(Outcome::done())
}
