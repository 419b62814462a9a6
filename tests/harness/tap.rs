//! Taps, spoken through as QEMU does.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::netns::NetNs;
use crate::scene::same;
use crate::wait;

/// A tap, which goes with this value.
pub struct Tap {
    name: String,
    file: File,
    /// Bytes of the virtio header before each frame.
    header: usize,
}

/// What precedes each frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Header {
    None,
    /// `virtio_net_hdr`, all zero: no offload.
    Virtio,
}

nix::ioctl_write_int!(tun_set_iff, b'T', 202);

impl Tap {
    /// Creates a tap in the namespace. It is down and on no bridge yet.
    pub fn open(namespace: &NetNs, name: &str, header: Header) -> Result<Self> {
        let file = namespace.run(|| create(name, header))?;
        let header = if header == Header::Virtio { 10 } else { 0 };
        Ok(Self { name: name.to_owned(), file, header })
    }

    /// The other end of a macvtap, by a device file that is made at the path.
    pub fn of_macvtap(namespace: &NetNs, name: &str, path: &Path, device: u64) -> Result<Self> {
        use nix::sys::stat::{Mode, SFlag, mknod};
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknod(path, SFlag::S_IFCHR, mode, device).context("cannot make a device file")?;
        let file = namespace.run(|| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
            options.open(path).with_context(|| format!("cannot open {}", path.display()))
        })?;
        // It begins with a virtio header unless it is told otherwise.
        Ok(Self { name: name.to_owned(), file, header: 10 })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a frame, as from the guest.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.send_after(&vec![0; self.header], frame)
    }

    /// Writes a frame of which only so many bytes are to lie in the buffer's linear part, which a
    /// guest may ask for (`hdr_len`). The kernel obeys when the frame is larger than a page.
    pub fn send_split(&self, frame: &[u8], linear: u16) -> Result<()> {
        let mut header = vec![0; self.header];
        match header.get_mut(2..4) {
            Some(length) => length.copy_from_slice(&linear.to_le_bytes()),
            None => bail!("{} has no virtio header", self.name),
        }
        self.send_after(&header, frame)
    }

    /// Writes a frame that asks the kernel to write the Internet checksum of everything from `start` on
    /// to `start + offset`, as virtio lets a guest ask.
    pub fn send_unfinished(&self, frame: &[u8], start: u16, offset: u16) -> Result<()> {
        const NEEDS_CHECKSUM: u8 = 1;
        let mut header = vec![0; self.header];
        if header.is_empty() {
            bail!("{} has no virtio header", self.name);
        }
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&start.to_le_bytes());
        header[8..10].copy_from_slice(&offset.to_le_bytes());
        self.send_after(&header, frame)
    }

    fn send_after(&self, header: &[u8], frame: &[u8]) -> Result<()> {
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(frame);
        let written = (&self.file).write(&bytes);
        let written = written.with_context(|| format!("cannot write to {}", self.name))?;
        if written != bytes.len() {
            bail!("{}: {written} of {} bytes written", self.name, bytes.len());
        }
        Ok(())
    }

    /// Reads the next frame, as the guest would, if there is one now.
    pub fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut buffer = [0; 2048];
        match (&self.file).read(&mut buffer) {
            Ok(length) => Ok(Some(buffer[self.header.min(length)..length].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read from {}", self.name)),
        }
    }

    /// Everything that is waiting to be read.
    pub fn drain(&self) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.receive()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Waits for exactly this frame; returns those that came before it.
    pub fn until(&self, what: &str, patience: Duration, last: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut before = Vec::new();
        wait::until(&format!("{what} at {}", self.name), patience, || {
            while let Some(frame) = self.receive()? {
                if same(&frame, last) {
                    return Ok(Some(()));
                }
                before.push(frame);
            }
            Ok(None)
        })?;
        Ok(before)
    }

    /// Waits for a frame that meets the condition; others are thrown away.
    pub fn await_frame(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>> {
        wait::until(&format!("{what} at {}", self.name), patience, || {
            Ok(self.drain()?.into_iter().find(|frame| wanted(frame)))
        })
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn create(name: &str, header: Header) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .context("cannot open /dev/net/tun")?;
    if name.len() >= libc::IFNAMSIZ {
        bail!("{name:?} is too long for an interface's name");
    }
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if header == Header::Virtio {
        flags |= libc::IFF_VNET_HDR;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request lives through the call, which reads and writes one ifreq.
    unsafe { tun_set_iff(file.as_raw_fd(), (&raw mut request) as libc::c_ulong) }
        .with_context(|| format!("cannot create the tap {name}"))?;
    Ok(file)
}
