//! What a domain's description refers to and does not say.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{MetadataTrust, Network, Volume, Volumes};

/// What libvirt says besides the description of a domain, and how far its author is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub networks: BTreeMap<String, Network>,
    pub volumes: Volumes,
    /// Of devices that disks are: the one that each is a snapshot of, where it is one.
    pub origins: BTreeMap<String, Option<String>>,
    pub metadata: MetadataTrust,
}

impl Context {
    /// The device that the one of this name is a snapshot of, by libvirt's word.
    pub(super) fn origin_of(&self, device: &Path) -> Option<&str> {
        let told = self.origins.iter().find(|(path, _)| Path::new(path) == device);
        let volume = || {
            self.volumes.values().find_map(|volume| match volume {
                Volume::Block(path, origin) if Path::new(path) == device => Some(origin),
                _ => None,
            })
        };
        told.map(|(_, origin)| origin).or_else(volume)?.as_deref()
    }
}

/// The context of one connection: its thread brings it up to date, and whoever is asked by libvirt's hook
/// reads it, because it may not ask libvirt.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Arc<Context>>>);

impl Shared {
    pub fn new(context: Context) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(context))))
    }

    /// As it is now.
    pub fn get(&self) -> Arc<Context> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::inventory) fn update(&self, change: impl FnOnce(&mut Context)) {
        change(Arc::make_mut(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}
