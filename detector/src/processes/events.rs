//! The kernel's announcements of processes that run another program, or end (`linux/cn_proc.h`).
//!
//! They spare the wait for the next scan. The kernel sends them to its first network and process
//! namespace only, and drops those that nobody takes fast enough; the scan finds what they miss.

use std::{io, sync::mpsc::SyncSender, thread};

use netlink_packet_core::{NLMSG_DONE, NetlinkBuffer};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_CONNECTOR};

use crate::net::{DATAGRAM_BYTES, messages};

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessEvent {
    Exec(u32),
    Exit(u32),
    /// Some were lost.
    Lost,
}

const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const PROC_EVENT_EXEC: u32 = 2;
const PROC_EVENT_EXIT: u32 = 0x8000_0000;

/// `struct nlmsghdr`, `struct cn_msg`.
const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;

/// Sends every event until nobody listens.
pub(super) fn follow(socket: Socket, events: SyncSender<ProcessEvent>) -> io::Result<()> {
    thread::Builder::new().name("exec".to_owned()).spawn(move || {
        let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
        loop {
            datagram.clear();
            match socket.recv(&mut datagram, 0) {
                Ok(_) => {
                    for event in messages(&datagram).filter_map(|m| event(m.payload)) {
                        if !tell(&events, event) {
                            return;
                        }
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    if !tell(&events, ProcessEvent::Lost) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "processes: the kernel's announcements have ended");
                    return;
                }
            }
        }
    })?;
    Ok(())
}

/// False when nobody listens. What does not fit is made good by the next scan.
fn tell(events: &SyncSender<ProcessEvent>, event: ProcessEvent) -> bool {
    use std::sync::mpsc::TrySendError;
    !matches!(events.try_send(event), Err(TrySendError::Disconnected(_)))
}

/// Asks for them. An error says why this kernel, or this namespace, has none.
pub(super) fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_CONNECTOR)?;
    socket.bind(&SocketAddr::new(0, CN_IDX_PROC))?;
    socket.send(&listen(), 0)?;
    Ok(socket)
}

fn listen() -> Vec<u8> {
    let mut message = vec![0; NETLINK_HEADER];
    for word in [CN_IDX_PROC, CN_VAL_PROC, 0, 0] {
        message.extend_from_slice(&word.to_ne_bytes());
    }
    message.extend_from_slice(&4_u16.to_ne_bytes());
    message.extend_from_slice(&0_u16.to_ne_bytes());
    message.extend_from_slice(&PROC_CN_MCAST_LISTEN.to_ne_bytes());
    let length = message.len();
    let mut header = NetlinkBuffer::new(&mut message);
    header.set_length(u32::try_from(length).unwrap_or(u32::MAX));
    header.set_message_type(NLMSG_DONE);
    message
}

/// Reads `struct cn_msg` with a `struct proc_event` in it.
fn event(payload: &[u8]) -> Option<ProcessEvent> {
    let word = |at: usize| {
        let bytes = payload.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    if word(0)? != CN_IDX_PROC {
        return None;
    }
    // what, cpu, timestamp (8 bytes), process_pid, process_tgid
    let what = word(CONNECTOR_HEADER)?;
    let process = word(CONNECTOR_HEADER + 20)?;
    match what {
        PROC_EVENT_EXEC => Some(ProcessEvent::Exec(process)),
        PROC_EVENT_EXIT if word(CONNECTOR_HEADER + 16)? == process => {
            Some(ProcessEvent::Exit(process))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, sync::mpsc::sync_channel, time::Duration};

    use super::*;

    #[test]
    fn any_bytes() {
        let mut payload = vec![0; 44];
        payload[0] = 1;
        payload[20] = 2;
        payload[40..44].copy_from_slice(&77_u32.to_ne_bytes());
        assert_eq!(event(&payload), Some(ProcessEvent::Exec(77)));
        for cut in 0..payload.len() {
            assert_eq!(event(&payload[..cut]), None, "{cut}");
        }
        payload[0] = 9;
        assert_eq!(event(&payload), None);
    }

    /// Listens only; needs the first namespaces of a machine, as the daemon has them.
    #[test]
    fn the_kernel_tells_of_a_program() {
        let (sender, events) = sync_channel(65_536);
        let followed = subscribe().and_then(|socket| follow(socket, sender));
        if let Err(error) = followed {
            eprintln!("skipped: this kernel or namespace has no process events: {error}");
            return;
        }
        let mut child = Command::new("true").spawn().unwrap();
        let (mut began, mut ended) = (false, false);
        while !(began && ended) {
            match events.recv_timeout(Duration::from_secs(10)) {
                Ok(ProcessEvent::Exec(pid)) => began |= pid == child.id(),
                Ok(ProcessEvent::Exit(pid)) => ended |= pid == child.id(),
                Ok(ProcessEvent::Lost) => {}
                Err(error) if !began && !ended && std::process::id() != 1 => {
                    eprintln!(
                        "skipped: no event in ten seconds, as outside of the first process namespace: {error}"
                    );
                    break;
                }
                Err(error) => panic!("began {began}, ended {ended}: {error}"),
            }
        }
        child.wait().unwrap();
    }
}
