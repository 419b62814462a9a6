//! The maps of what is learned, as the code that fills them sees them.

use core::{marker::PhantomData, ptr::NonNull};

use super::{Holding, Owner, OwnerKey, Place, Router, RouterKey, Transaction};
use crate::addr::Station;

/// `ADDRESS_OWNERS`, `LEARNED`, `ROUTERS` and `DHCP_TRANSACTIONS`.
pub trait Table {
    /// Who has the address.
    fn owner(&mut self, key: &OwnerKey) -> Option<Living<'_, Owner>>;
    /// Makes somebody the owner of an address that has none: of two who try, one.
    ///
    /// # Errors
    ///
    /// Says why the address has not become his.
    fn insert(&mut self, key: &OwnerKey, owner: &Owner) -> Result<(), Refused>;
    /// Takes the address from its owner, if it has one.
    fn remove(&mut self, key: &OwnerKey);
    /// The entry of `LEARNED` with this number.
    fn place(&mut self, number: u32) -> Option<Living<'_, Place>>;
    /// The entry of `DHCP_TRANSACTIONS` with this number.
    fn transaction(&mut self, number: u32) -> Option<Living<'_, Transaction>>;
    /// The entry of `ROUTERS` with this key.
    fn router(&mut self, key: &RouterKey) -> Option<Living<'_, Router>>;
    /// Writes that entry, if there is room for it.
    fn put_router(&mut self, key: &RouterKey, router: &Router) -> bool;
}

/// Why an address has not got an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has one.
    Exists,
    /// The host has no room or memory left for it.
    NoRoom,
}

/// A value that lies in a map, where other programs may change it at any time: so none of its fields is
/// taken to be what it was before, and no reference to it is ever made.
#[derive(Clone, Copy)]
pub struct Living<'a, T> {
    at: NonNull<T>,
    map: PhantomData<&'a T>,
}

impl<'a, T: Copy> Living<'a, T> {
    pub fn new(value: &'a mut T) -> Self {
        Self { at: NonNull::from_mut(value), map: PhantomData }
    }

    /// A value of the kernel's.
    ///
    /// # Safety
    ///
    /// `at` points to a value that stays where it is for `'a`, and is read and written by words.
    #[inline(always)]
    pub const unsafe fn from_raw(at: NonNull<T>) -> Self {
        Self { at, map: PhantomData }
    }

    #[inline(always)]
    pub fn get(self) -> T {
        // SAFETY: see `from_raw`; every bit pattern is a value.
        unsafe { self.at.read() }
    }

    #[inline(always)]
    pub fn set(self, value: T) {
        // SAFETY: see `from_raw`.
        unsafe { self.at.write(value) };
    }
}

impl Living<'_, Owner> {
    /// See [`Owner::holding`].
    #[inline(always)]
    pub fn holding(self, instance: u32, station: Station, now: u64) -> Holding {
        self.get().holding(instance, station, now)
    }

    /// From now on it lasts so long, by this origin.
    #[inline(always)]
    pub fn renew(self, expires: u64, origin: u32) {
        let at = self.at.as_ptr();
        // SAFETY: see `from_raw`; aligned words.
        unsafe {
            (*at).expires = expires;
            (*at).origin = origin;
        }
    }

    /// From now on it lasts so long.
    #[inline(always)]
    pub fn prolong(self, expires: u64) {
        // SAFETY: see `from_raw`; one aligned word.
        unsafe { (*self.at.as_ptr()).expires = expires };
    }
}
