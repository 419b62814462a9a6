//! Where libvirt looks for hooks, and whether one of them asks us.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where libvirt has its hooks.
pub(in crate::cli) const DIRECTORY: &str = "/etc/libvirt/hooks";

/// The hooks of a driver that are there, in the order in which libvirt runs them: the one that has the driver's
/// name, and since libvirt 6.5 those in the directory beside it.
pub(in crate::cli) fn hooks(directory: &Path, driver: &str) -> Vec<PathBuf> {
    let first = directory.join(driver);
    let beside = fs::read_dir(beside(directory, driver)).into_iter().flatten();
    let mut beside: Vec<_> = beside.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    beside.sort();
    let all = std::iter::once(first).chain(beside);
    all.filter(|path| path.is_file()).collect()
}

/// The directory of further hooks of a driver.
pub(in crate::cli) fn beside(directory: &Path, driver: &str) -> PathBuf {
    directory.join(format!("{driver}.d"))
}

/// Whether the text of a hook has us asked.
pub(in crate::cli) fn asks(text: &str, driver: &str) -> bool {
    let line = |line: &str| {
        !line.trim_start().starts_with('#') && line.contains(&format!("hook {driver}"))
    };
    text.lines().any(line)
}

/// The hooks of a driver that have us asked.
pub(in crate::cli) fn asking(directory: &Path, driver: &str) -> Vec<PathBuf> {
    let asks = |path: &PathBuf| {
        let text = fs::read(path).unwrap_or_default();
        asks(&String::from_utf8_lossy(&text), driver)
    };
    hooks(directory, driver).into_iter().filter(asks).collect()
}
