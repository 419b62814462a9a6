//! What a service of the host hears: a UDP socket of the host's own, emptied all the time.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::netns::NetNs;

/// A listening service. It ends when dropped.
pub struct Ears {
    counts: Arc<Mutex<BTreeMap<IpAddr, u64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ears {
    /// Listens at the port on every address of the namespace, broadcasts included.
    pub fn open(namespace: &NetNs, port: u16) -> Result<Self> {
        let socket = namespace.run(|| {
            let socket = UdpSocket::bind(("0.0.0.0", port)).context("cannot listen")?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok(socket)
        })?;
        let counts = Arc::new(Mutex::new(BTreeMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (counts, stop) = (counts.clone(), stop.clone());
            move || listen(&socket, &counts, &stop)
        });
        Ok(Self { counts, stop, thread: Some(thread) })
    }

    /// Datagrams heard from the address so far.
    pub fn heard(&self, from: IpAddr) -> Result<u64> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            bail!("the host's service has ended");
        }
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(counts.get(&from).copied().unwrap_or(0))
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been noticed by `heard`.
            let _ = thread.join();
        }
    }
}

fn listen(socket: &UdpSocket, counts: &Mutex<BTreeMap<IpAddr, u64>>, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((_, from)) => {
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry(from.ip()).or_default() += 1;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}
