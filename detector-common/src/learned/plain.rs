//! The maps of what is learned as plain maps, for tests on the host.

use std::collections::BTreeMap;

use super::{Living, Owner, OwnerKey, Place, Refused, Router, RouterKey, Table, Transaction};
use crate::maps::{LEARNED_PER_PORT, TRANSACTIONS_PER_PORT};

/// In place of the kernel's maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plain {
    pub owners: BTreeMap<OwnerKey, Owner>,
    pub places: Vec<Place>,
    pub transactions: Vec<Transaction>,
    pub routers: BTreeMap<RouterKey, Router>,
}

impl Plain {
    /// Empty ones, for so many ports.
    pub fn new(ports: usize) -> Self {
        Self {
            owners: BTreeMap::new(),
            places: vec![Place::default(); ports * LEARNED_PER_PORT as usize],
            transactions: vec![Transaction::default(); ports * TRANSACTIONS_PER_PORT as usize],
            routers: BTreeMap::new(),
        }
    }
}

impl Table for Plain {
    fn owner(&mut self, key: &OwnerKey) -> Option<Living<'_, Owner>> {
        self.owners.get_mut(key).map(Living::new)
    }

    fn insert(&mut self, key: &OwnerKey, owner: &Owner) -> Result<(), Refused> {
        if self.owners.contains_key(key) {
            return Err(Refused::Exists);
        }
        self.owners.insert(*key, *owner);
        Ok(())
    }

    fn remove(&mut self, key: &OwnerKey) {
        self.owners.remove(key);
    }

    fn place(&mut self, number: u32) -> Option<Living<'_, Place>> {
        self.places.get_mut(number as usize).map(Living::new)
    }

    fn transaction(&mut self, number: u32) -> Option<Living<'_, Transaction>> {
        self.transactions.get_mut(number as usize).map(Living::new)
    }

    fn router(&mut self, key: &RouterKey) -> Option<Living<'_, Router>> {
        self.routers.get_mut(key).map(Living::new)
    }

    fn put_router(&mut self, key: &RouterKey, router: &Router) -> bool {
        self.routers.insert(*key, *router);
        true
    }
}
