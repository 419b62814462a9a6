//! A guest's transmit queue that the host's kernel empties by itself, as QEMU has it with `vhost=on`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::eventfd::EventFd;

use crate::tap::Tap;
use crate::wait;

/// Frames that are written into memory and sent through a tap by a worker of the kernel.
pub struct Vhost {
    /// Before the memory that it reads.
    device: Option<File>,
    memory: *mut Memory,
    kick: EventFd,
    sent: u16,
}

const ENTRIES: usize = 8;
/// `struct virtio_net_hdr`, which the tap wants before each frame.
const HEADER: usize = 10;
const BUFFER: usize = 2048;
/// `VHOST_NET_VQ_TX`
const TRANSMIT: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(30);

/// A split virtqueue (virtio 1.2, section 2.7) and its buffer.
#[repr(C, align(4096))]
struct Memory {
    descriptors: [Descriptor; ENTRIES],
    available: Available,
    used: Used,
    buffer: [u8; BUFFER],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

#[repr(C)]
#[derive(Default)]
struct Available {
    flags: u16,
    index: u16,
    ring: [u16; ENTRIES],
    event: u16,
}

#[repr(C, align(4))]
#[derive(Default)]
struct Used {
    flags: u16,
    index: u16,
    ring: [[u32; 2]; ENTRIES],
    event: u16,
}

/// `linux/vhost_types.h`
#[repr(C)]
struct State {
    index: u32,
    number: u32,
}

#[repr(C)]
struct Descriptors {
    index: u32,
    file: i32,
}

#[repr(C)]
struct Addresses {
    index: u32,
    flags: u32,
    descriptors: u64,
    used: u64,
    available: u64,
    log: u64,
}

#[repr(C)]
struct Table {
    regions: u32,
    padding: u32,
    guest_address: u64,
    size: u64,
    address: u64,
    flags: u64,
}

const fn write_code(number: u32, size: usize) -> libc::c_ulong {
    ((1 << 30) | ((size as u32) << 16) | (0xaf << 8) | number) as libc::c_ulong
}

const SET_FEATURES: libc::c_ulong = write_code(0x00, 8);
const SET_OWNER: libc::c_ulong = 0xaf01;
/// The size that the code names is that of the table without its regions.
const SET_MEM_TABLE: libc::c_ulong = write_code(0x03, 8);
const SET_VRING_NUM: libc::c_ulong = write_code(0x10, 8);
const SET_VRING_ADDR: libc::c_ulong = write_code(0x11, 40);
const SET_VRING_BASE: libc::c_ulong = write_code(0x12, 8);
const SET_VRING_KICK: libc::c_ulong = write_code(0x20, 8);
const SET_BACKEND: libc::c_ulong = write_code(0x30, 8);

impl Vhost {
    /// Takes over the sending side of a tap that has virtio headers; what it receives is still read from
    /// the tap.
    pub fn over(tap: &Tap) -> Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/vhost-net");
        let device = device.context("cannot open /dev/vhost-net")?;
        let memory = Box::into_raw(Box::new(Memory {
            descriptors: Default::default(),
            available: Default::default(),
            used: Default::default(),
            buffer: [0; BUFFER],
        }));
        let it = Self { device: Some(device), memory, kick: EventFd::new()?, sent: 0 };
        it.connect(tap).context("vhost")?;
        Ok(it)
    }

    fn connect(&self, tap: &Tap) -> Result<()> {
        let base = self.memory as u64;
        let at = |offset: usize| base + offset as u64;
        let index = TRANSMIT;
        self.tell(SET_OWNER, &0_u64)?;
        self.tell(SET_FEATURES, &0_u64)?;
        // The guest's addresses are this process's own.
        let size = size_of::<Memory>() as u64;
        let (guest_address, address) = (base, base);
        let table = Table { regions: 1, padding: 0, guest_address, size, address, flags: 0 };
        self.tell(SET_MEM_TABLE, &table)?;
        self.tell(SET_VRING_NUM, &State { index, number: ENTRIES as u32 })?;
        self.tell(SET_VRING_BASE, &State { index, number: 0 })?;
        let addresses = Addresses {
            index,
            flags: 0,
            descriptors: at(std::mem::offset_of!(Memory, descriptors)),
            used: at(std::mem::offset_of!(Memory, used)),
            available: at(std::mem::offset_of!(Memory, available)),
            log: 0,
        };
        self.tell(SET_VRING_ADDR, &addresses)?;
        let kick = Descriptors { index, file: self.kick.as_fd().as_raw_fd() };
        self.tell(SET_VRING_KICK, &kick)?;
        self.tell(SET_BACKEND, &Descriptors { index, file: tap.as_fd().as_raw_fd() })
    }

    /// Has a frame sent; returns when the worker has taken it.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        let length = HEADER + frame.len();
        if length > BUFFER {
            bail!("a frame of {} bytes is too long for the queue", frame.len());
        }
        let place = usize::from(self.sent) % ENTRIES;
        let memory = self.memory;
        // SAFETY: the memory is this value's own. The worker only reads what lies before the index that is
        // written last, and it has taken all of that.
        unsafe {
            let buffer = (&raw mut (*memory).buffer).cast::<u8>();
            buffer.write_bytes(0, HEADER);
            buffer.add(HEADER).copy_from_nonoverlapping(frame.as_ptr(), frame.len());
            let descriptor =
                Descriptor { address: buffer as u64, length: length as u32, flags: 0, next: 0 };
            (&raw mut (*memory).descriptors[place]).write_volatile(descriptor);
            (&raw mut (*memory).available.ring[place]).write_volatile(place as u16);
            self.sent = self.sent.wrapping_add(1);
            fence(Ordering::SeqCst);
            (&raw mut (*memory).available.index).write_volatile(self.sent);
            fence(Ordering::SeqCst);
        }
        self.kick.write(1)?;
        wait::until("the vhost worker", PATIENCE, || {
            // SAFETY: the memory is this value's own, and two bytes are read at once.
            let used = unsafe { (&raw const (*memory).used.index).read_volatile() };
            Ok((used == self.sent).then_some(()))
        })
    }

    fn tell<T>(&self, code: libc::c_ulong, value: &T) -> Result<()> {
        let device = self.device.as_ref().context("the device is closed")?;
        // SAFETY: the value lives through the call, and is of the type that the code stands for.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), code, &raw const *value) };
        if result < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("ioctl {code:#x}"));
        }
        Ok(())
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        // The worker ends with the device.
        drop(self.device.take());
        // SAFETY: it was made by a box, and nobody reads it any more.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}
