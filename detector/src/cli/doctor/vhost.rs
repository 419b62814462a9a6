//! Whether the kernel itself empties guests' queues, and whether somebody can do so past every guard.

use std::{fs, path::Path};

use super::{Finding, Patient, fine, warning};

/// How the kernel calls a device that carries frames of a guest without the host's network (vDPA).
const PAST_GUARDS: &str = "vhost-vdpa-";

pub(super) fn check(_patient: &Patient<'_>) -> Vec<Finding> {
    look(Path::new("/dev"))
}

pub(super) fn look(devices: &Path) -> Vec<Finding> {
    let net = if devices.join("vhost-net").exists() {
        "vhost-net: what guests send comes from workers of the kernel, and passes guards as QEMU's own frames do"
    } else {
        "no vhost-net: QEMU sends for its guests, which takes longer and passes guards all the same"
    };
    let entries = fs::read_dir(devices).into_iter().flatten().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut past: Vec<_> = names.filter(|name| name.starts_with(PAST_GUARDS)).collect();
    past.sort();
    let mut found = vec![fine(net)];
    if !past.is_empty() {
        found.push(warning(
            format!(
                "a VM that is given {} sends past every guard, and is only told of",
                past.join(", ")
            ),
            "give VMs taps on a bridge; `detector finding list` has those with another way out \
             (unguarded-attachment)",
        ));
    }
    found
}
