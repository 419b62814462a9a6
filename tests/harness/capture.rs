//! Everything that arrives at one interface, recorded from the start.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netns::NetNs;
use crate::packet::{Direction, PacketSocket};
use crate::wait;

/// One frame, its first bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    pub at: Instant,
    pub bytes: Vec<u8>,
}

impl Frame {
    pub fn source(&self) -> Option<[u8; 6]> {
        self.bytes.get(6..12)?.try_into().ok()
    }
}

/// A running recording. It ends when dropped.
pub struct Capture {
    interface: String,
    frames: Arc<Mutex<Vec<Frame>>>,
    socket: Arc<PacketSocket>,
    /// Frames that came faster than they were recorded: the kernel tells of each only once.
    lost: AtomicU64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Capture {
    /// Records what comes in by the interface; what the namespace sends there itself is left out.
    pub fn start(namespace: &NetNs, interface: &str) -> Result<Self> {
        let socket = Arc::new(PacketSocket::open(namespace, interface)?);
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (socket, frames, stop) = (socket.clone(), frames.clone(), stop.clone());
            move || record(&socket, &frames, &stop)
        });
        let (interface, lost) = (interface.to_owned(), AtomicU64::new(0));
        Ok(Self { interface, frames, socket, lost, stop, thread: Some(thread) })
    }

    /// All frames up to now. An error when the recording has a gap, since then nothing can be said
    /// about what was lost elsewhere.
    pub fn frames(&self) -> Result<Vec<Frame>> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            bail!("the recording of {} ended", self.interface);
        }
        let new = u64::from(self.socket.lost()?);
        match self.lost.fetch_add(new, Ordering::Relaxed) + new {
            0 => Ok(self.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            lost => bail!("the recording of {} lost {lost} frames itself", self.interface),
        }
    }

    /// Waits for a frame that meets the condition.
    pub fn await_frame(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Frame> {
        let what = format!("{what} on {}", self.interface);
        wait::until(&what, patience, || Ok(self.frames()?.into_iter().find(|f| wanted(f))))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its result was of interest to `frames` only.
            let _ = thread.join();
        }
    }
}

fn record(socket: &PacketSocket, frames: &Mutex<Vec<Frame>>, stop: &AtomicBool) -> Result<()> {
    // A whole DHCP message without options.
    const KEPT: usize = 320;
    let mut buffer = [0; KEPT];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(50_u8)).map_err(|e| anyhow!("poll: {e}"))?;
        while let Some((length, direction)) = socket.receive(&mut buffer)? {
            if direction == Direction::In {
                let frame = Frame { at: Instant::now(), bytes: buffer[..length].to_vec() };
                frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
            }
        }
    }
    Ok(())
}
