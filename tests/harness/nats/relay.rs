//! Hosts that reach a fleet's server though it is in another one.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use anyhow::Result;

use super::{Nats, PORT};
use crate::host::Host;

const SERVER: (&str, u16) = ("127.0.0.1", PORT);

impl Nats<'_> {
    /// Lets another host reach the first server by its own loopback address, as the server's host does.
    pub fn reach_from(&self, host: &Host) -> Result<()> {
        let listener = host.network().run(|| Ok(TcpListener::bind(SERVER)?))?;
        // What it accepts is of the other host, what it opens is of the one that it runs in.
        let serve = move || {
            while let Ok((near, _)) = listener.accept() {
                // Whoever asked hears that the connection has ended.
                let _ = TcpStream::connect(SERVER).and_then(|far| pass_on(&near, &far));
            }
        };
        self.host.network().run(|| {
            thread::spawn(serve);
            Ok(())
        })
    }
}

/// Hands on what either says, until one of them ends.
fn pass_on(near: &TcpStream, far: &TcpStream) -> io::Result<()> {
    for (from, to) in [(near, far), (far, near)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
