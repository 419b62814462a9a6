//! Debian packages.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::ebpf_toolchain::{NIGHTLY, Route};
use super::{Profile, pins};
use crate::process;

/// The packages that the profile needs and that are not installed.
pub(super) fn missing(profile: Profile, route: Route) -> Result<Vec<&'static str>> {
    if process::find("dpkg-query").is_none() {
        return Ok(missing_programs(profile));
    }
    missing_of(&wanted(profile, route))
}

/// Those of the packages that are not installed.
pub(super) fn missing_of(wanted: &[&'static str]) -> Result<Vec<&'static str>> {
    if process::find("dpkg-query").is_none() {
        bail!("packages are made with Debian's tools: {}", wanted.join(" "));
    }
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f=${Package} ${db:Status-Status} ${Version}\n"]).args(wanted);
    // Its exit code is 1 as soon as one package is unknown, which is an answer like any other.
    let output = query.output().context("cannot run dpkg-query")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed = |package: &str| {
        text.lines().any(|line| {
            let mut words = line.split(' ');
            words.next() == Some(package) && words.next() == Some("installed")
        })
    };
    Ok(wanted.iter().copied().filter(|p| !installed(p)).collect())
}

/// Installs them; the answer says what else had to change for that.
pub(super) fn install(packages: &[&str]) -> Result<String> {
    let command = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.lines().any(|l| l == "VERSION_CODENAME=bookworm") {
        bail!(
            "these are missing: {}\nThis is not Debian 12, so setup does not install them. \
             Install what your distribution calls them (Debian: {command}). In place of rustc-web, \
             rust-web-src and cargo-web, run: {NIGHTLY}",
            packages.join(" ")
        );
    }
    if !process::is_root() {
        bail!("these are missing: {}\nAs root, run: {command}", packages.join(" "));
    }
    apt("apt-get").arg("update").run()?;
    let pinned = qemu_utils_pin(packages)?;
    let mut install = apt("apt-get");
    install.args(["install", "--no-install-recommends", "--allow-downgrades"]).args(packages);
    if let Some(pin) = &pinned {
        install.arg(pin);
    }
    install.run()?;
    Ok(pinned.map(|p| format!("(with {p}: one QEMU version only)")).unwrap_or_default())
}

/// qemu-utils of another release, such as a backport, conflicts with this release's QEMU. The QEMU
/// that apt would install decides.
fn qemu_utils_pin(packages: &[&str]) -> Result<Option<String>> {
    if !packages.contains(&"qemu-system-x86") {
        return Ok(None);
    }
    let policy = process::quiet(Command::new("apt-cache").args(["policy", "qemu-system-x86"]))?;
    let candidate = policy.lines().find_map(|l| l.trim().strip_prefix("Candidate: "));
    Ok(candidate.map(|version| format!("qemu-utils={version}")))
}

fn wanted(profile: Profile, route: Route) -> Vec<&'static str> {
    let mut wanted = pins::BUILD.to_vec();
    if route == Route::Debian {
        wanted.extend(pins::EBPF);
    }
    if profile >= Profile::Unit {
        wanted.extend(pins::UNIT);
    }
    if profile >= Profile::Lab {
        wanted.extend(pins::LAB);
    }
    wanted
}

/// Where there is no dpkg, presence of the programs has to do.
fn missing_programs(profile: Profile) -> Vec<&'static str> {
    let needs: [(Profile, &[_]); 3] = [
        (Profile::Build, &["pkg-config", "gcc"]),
        (Profile::Unit, &["qemu-img", "nft", "ip"]),
        (
            Profile::Lab,
            &[
                "libvirtd",
                "virsh",
                "qemu-system-x86_64",
                "unshare",
                "chromium",
                "nats-server",
                "minisign",
            ],
        ),
    ];
    let wanted = needs.iter().filter(|(of, _)| *of <= profile).flat_map(|(_, programs)| *programs);
    wanted.copied().filter(|program| process::find(program).is_none()).collect()
}

fn apt(program: &str) -> Apt {
    let mut command = Command::new(program);
    command.args(["--yes", "-qq", "-o", "Dpkg::Options::=--force-confold"]);
    // Services are not started: the lab starts its own, in its own namespaces.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    Apt(command)
}

struct Apt(Command);

impl Apt {
    fn arg(&mut self, arg: &str) -> &mut Self {
        self.0.arg(arg);
        self
    }

    fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> &mut Self {
        self.0.args(args);
        self
    }

    fn run(&mut self) -> Result<()> {
        process::quiet(&mut self.0).map(drop)
    }
}
