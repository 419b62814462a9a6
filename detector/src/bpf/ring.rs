//! A ring buffer of the kernel programs, read as the memory that it is (kernel/bpf/ringbuf.c). That takes its
//! descriptor and nothing else: no call of bpf(2), and so no privilege.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    slice,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence},
};

use memmap2::{MmapOptions, MmapRaw};
use nix::unistd::{SysconfVar, sysconf};

/// In the length of a record: it is being written.
const BUSY: u32 = 1 << 31;
/// Also there: it was given up, and says nothing.
const DISCARDED: u32 = 1 << 30;
/// Bytes before a record; records begin at multiples of it.
const HEADER: usize = 8;

/// Reads records one after the other. Whoever else reads the same ring buffer takes them away.
#[derive(Debug)]
pub(super) struct Ring {
    map: OwnedFd,
    /// How far it has been read, which is all of the memory that can be written.
    read: MmapRaw,
    /// How far it has been written, and from the second page on the records: twice in a row, so that none is cut.
    written: MmapRaw,
    page: usize,
    size: usize,
}

impl Ring {
    /// Of `size` bytes, a power of two and whole pages.
    pub(super) fn open(map: OwnedFd, size: usize) -> io::Result<Self> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.ok_or(io::ErrorKind::Unsupported)?;
        let page = usize::try_from(page).map_err(io::Error::other)?;
        let read = MmapOptions::new().len(page).map_raw(&map)?;
        let mut rest = MmapOptions::new();
        let written = rest.offset(page as u64).len(page + 2 * size).map_raw_read_only(&map)?;
        Ok(Self { map, read, written, page, size })
    }

    /// Hands the next record to `take`; `None` when there is none yet.
    pub(super) fn next<T>(&mut self, mut take: impl FnMut(&[u8]) -> T) -> Option<T> {
        loop {
            // SAFETY: both begin a page, live as long as `self`, and are touched as atomics only.
            let (read, written) = unsafe {
                (
                    AtomicUsize::from_ptr(self.read.as_mut_ptr().cast()),
                    AtomicUsize::from_ptr(self.written.as_mut_ptr().cast()),
                )
            };
            // The kernel wakes whoever has read all that was there. It must see how far that is before we say
            // that there is nothing, or else both wait for each other.
            fence(Ordering::SeqCst);
            let at = read.load(Ordering::Relaxed);
            let there = written.load(Ordering::Acquire).wrapping_sub(at);
            if there == 0 {
                return None;
            }
            let place = self.page + (at & (self.size - 1));
            // SAFETY: a multiple of eight within the first of the two mappings of the records.
            let record = unsafe { self.written.as_mut_ptr().add(place) };
            // SAFETY: as above; it is read as an atomic only.
            let header = unsafe { AtomicU32::from_ptr(record.cast()) }.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            let length = (header & !DISCARDED) as usize;
            let whole = (HEADER + length).next_multiple_of(HEADER);
            let fits = whole <= there && whole <= self.size;
            // What the kernel would never write is passed over, with all that is behind it.
            let next = at.wrapping_add(if fits { whole } else { there });
            let found = (fits && header & DISCARDED == 0).then(|| {
                // SAFETY: it lies within the two mappings of the records, and nobody writes to it before it is
                // said to have been read.
                unsafe { slice::from_raw_parts(record.add(HEADER), length) }
            });
            let taken = found.map(&mut take);
            read.store(next, Ordering::Release);
            if taken.is_some() {
                return taken;
            }
        }
    }
}

impl AsRawFd for Ring {
    /// Readable when there is a record that has not been read.
    fn as_raw_fd(&self) -> RawFd {
        self.map.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    const SIZE: usize = 4096;

    /// A file in the place of the kernel's memory.
    struct Kernel {
        memory: File,
        page: usize,
        written: usize,
    }

    impl Kernel {
        /// One that has been written and read up to here.
        fn at(start: usize) -> (Self, Ring) {
            let page = usize::try_from(sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap()).unwrap();
            let memory = memfd_create("ring", MFdFlags::MFD_CLOEXEC).unwrap();
            let kernel = Self { memory: memory.into(), page, written: start };
            kernel.memory.set_len((2 * page + 2 * SIZE) as u64).unwrap();
            kernel.put(0, &start.to_ne_bytes());
            kernel.put(page, &start.to_ne_bytes());
            let ring = Ring::open(kernel.memory.try_clone().unwrap().into(), SIZE).unwrap();
            (kernel, ring)
        }

        fn put(&self, at: usize, bytes: &[u8]) {
            self.memory.write_all_at(bytes, at as u64).unwrap();
        }

        fn read(&self) -> usize {
            let mut bytes = [0; size_of::<usize>()];
            self.memory.read_exact_at(&mut bytes, 0).unwrap();
            usize::from_ne_bytes(bytes)
        }

        /// Says of a record what `header` says, whatever it is.
        fn write(&mut self, header: u32, body: &[u8]) {
            let record = [&header.to_ne_bytes()[..], &[0; 4], body].concat();
            for (offset, byte) in record.iter().enumerate() {
                let at = self.written.wrapping_add(offset) % SIZE;
                // The same memory, twice in a row.
                for copy in [at, SIZE + at] {
                    self.put(2 * self.page + copy, &[*byte]);
                }
            }
            let whole = record.len().next_multiple_of(HEADER);
            self.written = self.written.wrapping_add(whole);
            self.put(self.page, &self.written.to_ne_bytes());
        }
    }

    #[test]
    fn records_are_read_one_after_the_other() {
        // At the start, at its end with a record that goes on at the start, and where the counts begin anew.
        for start in [0, 5 * SIZE - 24, 5 * SIZE - 8, 0_usize.wrapping_sub(16)] {
            let (mut kernel, mut ring) = Kernel::at(start);
            assert_eq!(ring.next(<[u8]>::len), None);
            for body in [&b"first"[..], b"", b"the third one, which is longer"] {
                let length = u32::try_from(body.len()).unwrap();
                kernel.write(DISCARDED | 3, b"no!");
                kernel.write(length, body);
                assert_eq!(ring.next(<[u8]>::to_vec).as_deref(), Some(body), "from {start}");
                assert_eq!(ring.next(<[u8]>::len), None);
                assert_eq!(kernel.read(), kernel.written);
            }
        }
    }

    #[test]
    fn what_is_not_finished_is_waited_for_and_what_cannot_be_is_passed_over() {
        let (mut kernel, mut ring) = Kernel::at(64);
        kernel.write(BUSY | 5, b"later");
        assert_eq!((ring.next(<[u8]>::len), kernel.read()), (None, 64));
        for length in [4097, DISCARDED - 1, 5000 | DISCARDED] {
            let (mut kernel, mut ring) = Kernel::at(64);
            kernel.write(length, b"more than there is");
            assert_eq!(ring.next(<[u8]>::len), None);
            assert_eq!(kernel.read(), kernel.written);
        }
    }
}
