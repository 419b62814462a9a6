//! Signs that somebody may have touched what is in force. Nothing depends on them: they only make the
//! next look around come at once.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::{Interest, unix::AsyncFd};

use super::{BpfError, PinPaths};
use crate::{enforcer::Sign, net::NetSigns};

/// What rtnetlink says of filters and forwarding entries, and what happens to the pins.
pub struct Signs {
    net: NetSigns,
    pins: PinSigns,
}

impl Signs {
    /// In the network namespace of this thread. Needs a Tokio runtime.
    pub(super) fn open(paths: &PinPaths) -> Result<Self, BpfError> {
        Ok(Self { net: NetSigns::subscribe()?, pins: PinSigns::open(paths)? })
    }

    /// The next signs. Can be cancelled without losing one.
    pub async fn next(&mut self) -> Result<BTreeSet<Sign>, BpfError> {
        let Self { net, pins } = self;
        let first = tokio::select! {
            sign = net.next() => sign?,
            sign = pins.next() => sign?,
        };
        let mut signs: BTreeSet<_> = net.drain().into_iter().collect();
        signs.insert(first);
        if pins.drain() {
            signs.insert(Sign::Pins);
        }
        Ok(signs)
    }
}

/// Names that come and go below the pin directory.
struct PinSigns {
    paths: PinPaths,
    inotify: Inotify,
    /// The same, to wait for.
    readable: AsyncFd<OwnedFd>,
}

impl PinSigns {
    fn open(paths: &PinPaths) -> Result<Self, BpfError> {
        let open = || -> io::Result<Self> {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let same = inotify.as_fd().try_clone_to_owned()?;
            // SAFETY: an owned descriptor is open, and the same one, until it is dropped.
            let readable = unsafe { AsyncFd::register_with_interest(same, Interest::READABLE) };
            let readable = readable.map_err(|error| error.into_parts().1)?;
            Ok(Self { paths: paths.clone(), inotify, readable })
        };
        open().map_err(BpfError::failed(format!("watch {}", paths.root().display())))
    }

    async fn next(&mut self) -> Result<Sign, BpfError> {
        self.watch();
        let failed = BpfError::failed("hear of changes of the pins");
        self.readable.readable().await.map_err(failed)?.clear_ready();
        self.drain();
        Ok(Sign::Pins)
    }

    /// Forgets what has happened; whether anything had.
    fn drain(&mut self) -> bool {
        let mut any = false;
        while self.inotify.read_events().is_ok() {
            any = true;
        }
        any
    }

    /// A directory that has been made anew is watched from now on. One that is not there is noticed by
    /// looking.
    fn watch(&self) {
        let come_and_go = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let Self { paths, inotify, .. } = self;
        for directory in [paths.root(), paths.version(), &paths.maps(), &paths.links()] {
            let _ = inotify.add_watch(directory, come_and_go);
        }
    }
}
