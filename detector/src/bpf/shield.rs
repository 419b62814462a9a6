//! The XDP program on a port that is isolated and floods.

use std::{fs, io, os::fd::AsFd, path::Path};

use detector_core::model::Shield;

use super::{
    BpfError, PinPaths, Pins,
    load::{Programs, borrowed},
    sys,
};

/// Puts the shield on, or replaces its program where it is on. Native or not at all: the generic hook
/// comes when there is a buffer already, so it would save nothing.
pub(super) fn attach(
    programs: &mut Programs,
    pins: &Pins,
    ifindex: u32,
) -> Result<Shield, BpfError> {
    let path = pins.paths().shield(ifindex);
    let program = borrowed(programs.shield()?);
    let put = || -> io::Result<Shield> {
        if is_on(&path, ifindex)? {
            sys::replace(sys::open_pin(&path)?.as_fd(), program)?;
            return Ok(Shield::On);
        }
        remove(&path)?;
        match sys::attach_xdp(program, ifindex) {
            Ok(link) => sys::pin(link.as_fd(), &path).map(|()| Shield::On),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Err(error),
            Err(error) => {
                tracing::info!(ifindex, %error, "the interface takes no shield");
                Ok(Shield::Refused)
            }
        }
    };
    put().map_err(BpfError::failed(format!("put a shield on interface {ifindex}")))
}

/// Takes the shield off; one that is not there is off already.
pub(super) fn detach(pins: &Pins, ifindex: u32) -> Result<(), BpfError> {
    let path = pins.paths().shield(ifindex);
    let take_off = || {
        if is_on(&path, ifindex)? {
            sys::detach(sys::open_pin(&path)?.as_fd())?;
        }
        remove(&path)
    };
    take_off().map_err(BpfError::failed(format!("take the shield off interface {ifindex}")))
}

/// Whether the shield that is pinned for the interface is on it.
pub(super) fn alive(paths: &PinPaths, ifindex: u32) -> Result<bool, BpfError> {
    let path = paths.shield(ifindex);
    is_on(&path, ifindex)
        .map_err(BpfError::failed(format!("look at the pinned link {}", path.display())))
}

fn is_on(path: &Path, ifindex: u32) -> io::Result<bool> {
    match sys::open_pin(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        link => match sys::xdp_ifindex(link?.as_fd()) {
            // Somebody has put another object there.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(false),
            on => Ok(on? == ifindex),
        },
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
