//! Programs of others on an interface.

use std::{os::fd::AsFd, path::Path};

use super::{BpfError, Hook, PinPaths, attach, sys};

/// How many programs of others run ahead of ours on the interface, or at all where none of ours is there.
/// Changes nothing.
///
/// # Errors
///
/// Where this process may not ask.
pub fn others_ahead(root: &Path, ifindex: u32) -> Result<usize, BpfError> {
    let paths = PinPaths::new(root);
    let mut others = 0;
    for hook in Hook::BOTH {
        match sys::links_on(ifindex, hook) {
            Ok(ids) => {
                let pin = sys::open_pin(&paths.link(ifindex, hook)).ok();
                let ours = pin.and_then(|link| sys::describe(link.as_fd()).ok());
                let place = ids.iter().position(|id| ours.is_some_and(|link| link.id == *id));
                others += place.unwrap_or(ids.len());
            }
            // No TCX here.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                others += attach::foreign_filters(ifindex, hook)?;
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => {}
            Err(error) => {
                let what = format!("list the {} programs of interface {ifindex}", hook.as_str());
                return Err(BpfError::failed(what)(error));
            }
        }
    }
    Ok(others)
}
