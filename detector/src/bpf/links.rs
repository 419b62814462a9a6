//! Our TCX links, held open: whoever removes a pin takes no program off, and a link is asked for its
//! place by one system call.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirEntryExt, MetadataExt},
    },
};

use super::{
    BpfError, Hook, PinPaths,
    attach::{Standing, replace_pin},
    sys,
};

#[derive(Debug, Default)]
pub(super) struct Links {
    held: BTreeMap<(u32, Hook), Held>,
}

#[derive(Debug)]
struct Held {
    link: OwnedFd,
    id: u32,
    /// Inode of its pin.
    inode: u64,
}

impl Links {
    /// Holds the link that is pinned for this hook. What was held before is let go.
    pub(super) fn hold(
        &mut self,
        paths: &PinPaths,
        ifindex: u32,
        hook: Hook,
    ) -> Result<(), BpfError> {
        let path = paths.link(ifindex, hook);
        let open = || -> io::Result<Held> {
            let link = sys::open_pin(&path)?;
            let id = sys::describe(link.as_fd())?.id;
            Ok(Held { link, id, inode: fs::symlink_metadata(&path)?.ino() })
        };
        let held =
            open().map_err(BpfError::failed(format!("hold the pinned link {}", path.display())))?;
        self.held.insert((ifindex, hook), held);
        Ok(())
    }

    /// Lets go of the links of an interface.
    pub(super) fn drop(&mut self, ifindex: u32) {
        for hook in Hook::BOTH {
            self.held.remove(&(ifindex, hook));
        }
    }

    /// Where the link stands on its hook; `None` when none is held.
    pub(super) fn standing(&self, ifindex: u32, hook: Hook) -> Result<Option<Standing>, BpfError> {
        let Some(held) = self.held.get(&(ifindex, hook)) else { return Ok(None) };
        match sys::links_on(ifindex, hook) {
            Ok(ids) => Ok(Some(Standing::of(ids.iter().position(|id| *id == held.id)))),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => {
                Ok(Some(Standing::Absent))
            }
            Err(error) => {
                let what = format!("list the {} programs of interface {ifindex}", hook.as_str());
                Err(BpfError::failed(what)(error))
            }
        }
    }

    /// The hooks whose pin is gone, or is of something else. One pass over the directory.
    pub(super) fn unpinned(&self, paths: &PinPaths) -> Result<Vec<(u32, Hook)>, BpfError> {
        let list = || -> io::Result<BTreeMap<String, u64>> {
            let mut found = BTreeMap::new();
            for entry in fs::read_dir(paths.links())? {
                let entry = entry?;
                found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.ino())));
            }
            Ok(found)
        };
        let found =
            list().map_err(BpfError::failed(format!("list {}", paths.links().display())))?;
        let missing = self.held.iter().filter(|((ifindex, hook), held)| {
            found.get(&PinPaths::link_name(*ifindex, *hook)) != Some(&held.inode)
        });
        Ok(missing.map(|(place, _)| *place).collect())
    }

    /// Pins the link anew, in the place of whatever has its name.
    pub(super) fn pin_again(
        &mut self,
        paths: &PinPaths,
        ifindex: u32,
        hook: Hook,
    ) -> Result<(), BpfError> {
        let Some(held) = self.held.get_mut(&(ifindex, hook)) else { return Ok(()) };
        let path = paths.link(ifindex, hook);
        replace_pin(held.link.as_fd(), &paths.new_link(ifindex, hook), &path)
            .and_then(|()| fs::symlink_metadata(&path))
            .map(|meta| held.inode = meta.ino())
            .map_err(BpfError::failed(format!("pin the link {} again", path.display())))
    }
}
