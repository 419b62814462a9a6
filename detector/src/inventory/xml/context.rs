//! What a domain's description refers to and does not say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{MetadataTrust, Network, Volumes};

/// What libvirt says besides the description of a domain, and how far its author is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub networks: BTreeMap<String, Network>,
    pub volumes: Volumes,
    pub metadata: MetadataTrust,
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
