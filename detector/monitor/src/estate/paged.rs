//! What a host lists in pages.

use std::collections::BTreeMap;

use detector_core::fleet::page;

/// The pages of a host that were heard. The first one says how many there are, and a host tells it last: until then what
/// it has told before counts, and nothing is missing or there twice meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paged<T> {
    pages: BTreeMap<u32, Vec<T>>,
    of: Option<u32>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), of: None }
    }
}

impl<T> Paged<T> {
    /// Takes a page, and how many there are by it. No host has more than [`page::MOST`], whatever it says.
    pub(super) fn put(&mut self, (number, of): (u32, u32), all: Vec<T>) {
        if number >= page::MOST {
            return;
        }
        self.pages.insert(number, all);
        if number == 0 {
            self.of = Some(of);
            self.pages.retain(|number, _| *number < of);
        }
    }

    pub(super) fn page(&self, number: u32) -> Option<&[T]> {
        self.pages.get(&number).map(Vec::as_slice)
    }

    /// What is in all other pages.
    pub(super) fn beside(&self, number: u32) -> usize {
        let others = self.pages.iter().filter(|(other, _)| **other != number);
        others.map(|(_, all)| all.len()).sum()
    }

    /// All of it; `said` is how many pages there are by the host's state, which counts where the first page is unknown.
    pub(super) fn all(&self, said: u32) -> impl Iterator<Item = &T> + Clone {
        self.pages.range(..self.count(said)).flat_map(|(_, all)| all)
    }

    /// Whether every page was heard.
    pub(super) fn is_whole(&self, said: u32) -> bool {
        let count = self.count(said);
        self.pages.range(..count).count() == count as usize
    }

    fn count(&self, said: u32) -> u32 {
        self.of.unwrap_or(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page, what is in it, how many there are by the state; what is seen then, and whether that is all.
    type Step<'a> = ((u32, u32), &'a [u8], u32, &'a [u8], bool);

    #[test]
    fn more_pages_and_fewer_count_when_the_first_is_heard() {
        let mut paged = Paged::default();
        let mut seen = |put: (u32, u32), all: &[u8], said: u32| {
            paged.put(put, all.to_vec());
            (paged.all(said).copied().collect::<Vec<_>>(), paged.is_whole(said))
        };
        let steps: [Step<'_>; 7] = [
            // Of a first page that was lost the state says that it is missing.
            ((1, 2), &[3], 2, &[3], false),
            ((0, 1), &[1, 2], 1, &[1, 2], true),
            // One more: nothing is seen of it until the first page comes, whatever the state says meanwhile.
            ((1, 2), &[2, 4], 2, &[1, 2], true),
            ((0, 2), &[1], 1, &[1, 2, 4], true),
            ((0, 1), &[1, 4], 2, &[1, 4], true),
            ((0, 3), &[1], 3, &[1], false),
            ((page::MOST, 3), &[9], 3, &[1], false),
        ];
        for (put, all, said, expect, whole) in steps {
            assert_eq!(seen(put, all, said), (expect.to_vec(), whole), "{put:?}");
        }
    }
}
