//! Headers that have been read: those of running VMs are looked at every other second, and a process for each look
//! would be too many.

use std::{fs::File, num::NonZeroUsize};

use lru::LruCache;

use super::Inode;
use crate::registry::qcow2::{Header, read_at_most};

/// How many are kept; the least recently used go first.
const MOST: NonZeroUsize = NonZeroUsize::new(4096).expect("more than none");
/// Of a longer one nothing is kept. The name of a backing file has 1,023 bytes at most.
pub(super) const LONGEST_START: usize = 4096;

/// What the first bytes of files came to. A header follows from these bytes and nothing else, so that the same ones
/// need not be read again by anybody.
pub(super) struct Memory(LruCache<Inode, (Vec<u8>, Header)>);

impl Default for Memory {
    fn default() -> Self {
        Self(LruCache::new(MOST))
    }
}

impl Memory {
    /// The header of a file that still begins as it did.
    pub(super) fn recall(&mut self, id: Inode, file: &File) -> Option<Header> {
        let (start, header) = self.0.get(&id)?;
        let now = read_at_most(file, start.len()).ok()?;
        (now == *start).then(|| header.clone())
    }

    /// Of the same file only: what one image's reader says is no other's.
    pub(super) fn keep(&mut self, id: Inode, start: Option<Vec<u8>>, header: &Header) {
        match start.filter(|start| start.len() <= LONGEST_START) {
            Some(start) => drop(self.0.put(id, (start, header.clone()))),
            None => drop(self.0.pop(&id)),
        }
    }
}
