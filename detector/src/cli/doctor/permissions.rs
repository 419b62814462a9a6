//! Who else could change what the daemon goes by.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{Finding, Patient, fine, problem, unknown, warning};
use crate::config::DEFAULT_PATH;

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let paths = &patient.config.paths;
    let configuration = patient.global.config.clone().unwrap_or_else(|| DEFAULT_PATH.into());
    let mut found = Vec::new();
    let trusted: [&PathBuf; 4] =
        [&configuration, &paths.policy, &paths.templates, &paths.inventory];
    for path in trusted {
        found.extend(writable(path));
    }
    for record in &patient.config.scan.records {
        found.extend(writable(record));
    }
    found.extend(private(&paths.state));
    if found.is_empty() {
        found.push(fine("only root can change what the daemon goes by"));
    }
    found
}

/// What others may write to decides nothing.
pub(super) fn writable(path: &Path) -> Option<Finding> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            return Some(unknown(format!("{}: {error}", path.display()), "run it as root"));
        }
    };
    let mode = meta.permissions().mode();
    // A group is an administrator's decision; everybody is nobody's.
    if mode & 0o002 != 0 {
        let what = format!("everybody may write to {}", path.display());
        return Some(problem(what, format!("chmod o-w {}", path.display())));
    }
    if meta.uid() != 0 {
        let what = format!("{} belongs to user {}, who can change it", path.display(), meta.uid());
        return Some(warning(what, format!("chown root {}", path.display())));
    }
    None
}

/// Findings may name addresses of tenants.
pub(super) fn private(state: &Path) -> Option<Finding> {
    let meta = fs::metadata(state).ok()?;
    (meta.permissions().mode() & 0o077 != 0).then(|| {
        let what = format!("others can look into {}, where findings name tenants", state.display());
        warning(what, format!("chmod 700 {}", state.display()))
    })
}
