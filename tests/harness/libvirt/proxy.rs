//! Stands between libvirt and who speaks with it, and can keep answers back: for the moment between two of
//! them, and for one call that never returns on a connection that is alive.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::libvirt::Libvirt;
use crate::wait;

/// Numbers of procedures in libvirt's `remote_protocol.x`.
pub const DOMAIN_GET_XML_DESC: u32 = 14;
pub const CONNECT_LIST_ALL_DOMAINS: u32 = 273;

const REMOTE_PROGRAM: u32 = 0x2000_8086;
const REPLY: u32 = 1;

/// libvirt's own limit on a message.
const LONGEST: usize = 32 << 20;

/// A socket behind which a libvirt answers.
pub struct Proxy {
    socket: PathBuf,
    gate: Arc<Mutex<Gate>>,
}

#[derive(Default)]
struct Gate {
    /// The procedure whose replies are kept back.
    closed_to: Option<u32>,
    held: Vec<(Arc<UnixStream>, Vec<u8>)>,
}

impl Proxy {
    /// Listens at `socket`. Each connection to it becomes one to the libvirt that is there then.
    pub fn start(socket: &Path, libvirt: &Libvirt<'_>) -> Result<Self> {
        let listener = UnixListener::bind(socket)
            .with_context(|| format!("cannot listen at {}", socket.display()))?;
        let gate = Arc::new(Mutex::new(Gate::default()));
        let (behind, shared) = (libvirt.socket(), Arc::clone(&gate));
        // It ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Without libvirt the client finds its connection closed.
                if let Ok(server) = UnixStream::connect(&behind) {
                    pass_on(client, server, &shared);
                }
            }
        });
        Ok(Self { socket: socket.to_owned(), gate })
    }

    pub fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket.display())
    }

    /// From now on replies to this procedure are kept back.
    pub fn hold(&self, procedure: u32) {
        lock(&self.gate).closed_to = Some(procedure);
    }

    /// Waits until one is.
    pub fn await_held(&self, patience: Duration) -> Result<()> {
        wait::until("a reply of libvirt's", patience, || {
            Ok((!lock(&self.gate).held.is_empty()).then_some(()))
        })
    }

    /// Hands on what has been kept back, and keeps nothing back any more.
    pub fn release(&self) -> Result<()> {
        let mut gate = lock(&self.gate);
        gate.closed_to = None;
        for (client, message) in gate.held.drain(..) {
            // Whoever has given up waiting is gone.
            match (&*client).write_all(&message) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn pass_on(client: UnixStream, server: UnixStream, gate: &Arc<Mutex<Gate>>) {
    let (client, server) = (Arc::new(client), Arc::new(server));
    let (asks, to) = (Arc::clone(&client), Arc::clone(&server));
    thread::spawn(move || {
        let _ = std::io::copy(&mut &*asks, &mut &*to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let gate = Arc::clone(gate);
    thread::spawn(move || {
        while let Some(message) = message(&server) {
            let mut gate = lock(&gate);
            if gate.closed_to.is_some_and(|procedure| answers(&message, procedure)) {
                gate.held.push((Arc::clone(&client), message));
            } else if (&*client).write_all(&message).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// One message with its length in front, as libvirt frames them.
fn message(mut from: &UnixStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message).ok()?;
    let length = usize::try_from(word(&message, 0)?).ok()?;
    let rest = length.checked_sub(4).filter(|_| length <= LONGEST)?;
    message.resize(4 + rest, 0);
    from.read_exact(&mut message[4..]).ok()?;
    Some(message)
}

/// Behind the length: program, version, procedure, type.
fn answers(message: &[u8], procedure: u32) -> bool {
    [word(message, 1), word(message, 3), word(message, 4)]
        == [Some(REMOTE_PROGRAM), Some(procedure), Some(REPLY)]
}

fn word(message: &[u8], number: usize) -> Option<u32> {
    let bytes = message.get(number * 4..number * 4 + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn lock(gate: &Mutex<Gate>) -> std::sync::MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}
