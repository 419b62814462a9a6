//! `cargo xtask setup`: installs what is missing, in pinned versions, and is quick when nothing is.

mod archive;
mod bpf_linker;
pub(crate) mod cargo_deny;
mod cross;
mod ebpf_toolchain;
mod guest_agent;
mod guest_kernel;
pub(crate) mod kernels;
mod machine;
mod packages;
mod pins;
mod root;
pub(crate) mod tools;
mod unpacked;

pub(crate) use cross::Processor;
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
    purpose: Purpose,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Purpose {
    /// Building everything, the kernel programs too
    Build,
    /// What the unit tests call as well
    Unit,
    /// The lab as well: libvirt, QEMU, a guest kernel
    Lab,
    /// Making packages, for other processors too
    Dist,
}

/// Each holds those before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Profile {
    Build,
    Unit,
    Lab,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match args.purpose {
        Purpose::Build => ensure(Profile::Build),
        Purpose::Unit => ensure(Profile::Unit),
        Purpose::Lab => ensure(Profile::Lab),
        Purpose::Dist => {
            ensure(Profile::Build)?;
            ensure_dist(&Processor::ALL)
        }
    }
}

/// Brings the machine to what making packages needs, for other processors as well.
pub(crate) fn ensure_dist(processors: &[Processor]) -> Result<()> {
    let mut steps = Steps::default();
    install(&mut steps, &packages::missing_of(&pins::dist(!processors.is_empty()))?)?;
    for processor in processors {
        if !processor.is_there()? {
            let name = format!("libraries for {}", processor.target);
            steps.quiet(&name, || processor.fetch().map(Outcome::Done))?;
        }
    }
    Ok(())
}

/// Brings the machine to what trying packages out needs.
pub(crate) fn ensure_clean_root() -> Result<()> {
    let mut steps = Steps::default();
    install(&mut steps, &packages::missing_of(&pins::CLEAN)?)?;
    if !root::is_there() {
        steps.quiet("a clean Debian", || root::make().map(|()| Outcome::done()))?;
    }
    Ok(())
}

/// Makes the disk of a whole machine, where there is none yet or it is made by something else now.
pub(crate) fn ensure_machine() -> Result<()> {
    let mut steps = Steps::default();
    install(&mut steps, &packages::missing_of(&pins::MACHINE_TOOLS)?)?;
    if !machine::is_made() {
        steps.quiet("disk of a machine", || machine::make().map(Outcome::Done))?;
    }
    Ok(())
}

fn install(steps: &mut Steps, missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    steps.quiet(&format!("system packages: {}", missing.join(" ")), || {
        packages::install(missing).map(Outcome::Done)
    })
}

/// Brings the machine to what the profile needs.
pub(crate) fn ensure(profile: Profile) -> Result<()> {
    let mut steps = Steps::default();
    let route = ebpf_toolchain::choose();
    install(&mut steps, &packages::missing(profile, route)?)?;
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
