//! Pins: without them nothing outlives the daemon.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use detector_common::maps;

use super::super::KernelEnforcer;
use crate::{
    bpf::{BpfError, PinPaths, attach::replace_pin, sys},
    enforcer::Tampered,
};

/// A pinned map, held open.
#[derive(Debug)]
pub(super) struct PinnedMap {
    name: &'static str,
    map: OwnedFd,
    /// Inode of its pin.
    inode: u64,
}

impl PinnedMap {
    pub(super) fn all(paths: &PinPaths) -> Result<Vec<Self>, BpfError> {
        maps::ALL.iter().map(|name| Self::open(name, &paths.map(name))).collect()
    }

    fn open(name: &'static str, path: &Path) -> Result<Self, BpfError> {
        let open = || Ok(Self { name, map: sys::open_pin(path)?, inode: inode(path)? });
        open().map_err(|error: io::Error| {
            BpfError::failed(format!("hold the pinned map {}", path.display()))(error)
        })
    }

    fn pin_again(&mut self, paths: &PinPaths) -> Result<(), BpfError> {
        let path = paths.map(self.name);
        replace_pin(self.map.as_fd(), &paths.new_map(self.name), &path)
            .and_then(|()| inode(&path))
            .map(|inode| self.inode = inode)
            .map_err(BpfError::failed(format!("pin the map {} again", path.display())))
    }
}

fn inode(path: &Path) -> io::Result<u64> {
    fs::symlink_metadata(path).map(|meta| meta.ino())
}

impl KernelEnforcer {
    /// Directories, maps and links have their names.
    pub(super) fn verify_pins(&mut self) -> Result<(), BpfError> {
        if self.pins.restore_directories()? {
            let root = self.pins.paths().version().display().to_string();
            self.watch.found(None, Tampered::Pin, format!("{root} was removed"), Ok(()));
        }
        let paths = self.pins.paths();
        let mut again = Vec::new();
        for map in &mut self.watch.maps {
            if inode(&paths.map(map.name)).ok() != Some(map.inode) {
                again.push((format!("the map {} was not pinned", map.name), map.pin_again(paths)));
            }
        }
        for (found, put_back) in again {
            self.watch.found(None, Tampered::Pin, found, put_back);
        }
        for (ifindex, hook) in self.links.unpinned(self.pins.paths())? {
            let Some(held) = self.mirror.interfaces.get(&ifindex) else { continue };
            let port = (ifindex, held.slot.instance);
            let put_back = self.links.pin_again(self.pins.paths(), ifindex, hook);
            let found = format!("the link of its {} was not pinned", hook.as_str());
            self.watch.found(Some(port), Tampered::Pin, found, put_back);
        }
        Ok(())
    }

    /// The id of our map of that name.
    pub(in super::super) fn map_id(&self, name: &str) -> Result<u32, BpfError> {
        let held = self.watch.maps.iter().find(|map| map.name == name);
        held.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
            .and_then(|held| sys::map_id(held.map.as_fd()))
            .map_err(BpfError::failed(format!("look at the map {name}")))
    }
}
