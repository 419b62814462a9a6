//! What the kernel can do.

use std::path::Path;

use nix::sys::utsname::uname;

use super::{Finding, Patient, fine, problem, unknown, warning};
use crate::bpf;

const OLDEST: (u32, u32) = (5, 10);
const BTF: &str = "/sys/kernel/btf/vmlinux";

pub(super) fn check(_patient: &Patient<'_>) -> Vec<Finding> {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = release.unwrap_or_default();
    let mut found = vec![judge(&release)];
    match bpf::probe() {
        Ok(features) if features.tcx => found.push(fine(
            "BPF programs, ring buffers and TCX links: programs are replaced without a gap",
        )),
        Ok(_) => found.push(warning(
            "BPF programs and ring buffers, but no TCX: programs are clsact filters, which libvirt's \
             <bandwidth> excludes, and which whoever uses `tc` can remove",
            "run Linux 6.6 or newer",
        )),
        Err(error) if is_allowed() => found.push(problem(error.to_string(), "run Linux 5.10 or newer")),
        Err(error) => found.push(unknown(error.to_string(), "run it as root")),
    }
    if !Path::new(BTF).exists() {
        found.push(warning(
            format!("no {BTF}: `bpftool` cannot show maps by field; the detector does not need it"),
            "run a kernel with CONFIG_DEBUG_INFO_BTF",
        ));
    }
    found
}

pub(super) fn judge(release: &str) -> Finding {
    match version(release) {
        Some(found) if found >= OLDEST => fine(format!("Linux {release}")),
        Some(_) => problem(format!("Linux {release} is too old"), "run Linux 5.10 or newer"),
        None => unknown(format!("the kernel calls itself {release:?}"), "expected 5.10 or newer"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Without privileges nothing can be said of the kernel.
fn is_allowed() -> bool {
    nix::unistd::geteuid().is_root()
}
