//! systemd's journal, by its native protocol: fields as datagrams, and what is too large for one as a
//! sealed file in memory.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, IoSlice, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::Path,
    sync::Arc,
};

use detector_core::model::Severity;
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
    },
};

use super::{Delivered, Failure, blocking};
use crate::{
    alert::{host::Origin, notice::Notice, ocsf, text},
    config::alerts,
};

/// By which `journalctl MESSAGE_ID=…` finds every alert.
const MESSAGE_ID: &str = "d5a31fb0b3d94f0e9b1ad0a0de7ec70f";
/// The name of the file in memory, for whoever looks.
const NAME: &CStr = c"detector-alert";

#[derive(Debug)]
pub(super) struct Journald {
    keys: alerts::Journald,
    origin: Arc<Origin>,
}

impl Journald {
    pub(super) fn new(keys: &alerts::Journald, origin: &Arc<Origin>) -> Self {
        Self { keys: keys.clone(), origin: Arc::clone(origin) }
    }

    pub(super) fn target(&self) -> String {
        self.keys.socket.display().to_string()
    }

    pub(super) async fn deliver(&self, notices: &[Notice]) -> Delivered {
        let entries: Vec<_> = notices.iter().map(|notice| self.entry(notice)).collect();
        let path = self.keys.socket.clone();
        blocking(move || {
            entries
                .iter()
                .try_for_each(|entry| send(&path, entry))
                .map_err(|error| Failure::later("the journal does not take it", error))
        })
        .await
    }

    fn entry(&self, notice: &Notice) -> Vec<u8> {
        let finding = &notice.finding;
        let mut entry = Vec::new();
        let fields = [
            ("MESSAGE", text::line(notice, &self.origin)),
            ("MESSAGE_ID", MESSAGE_ID.to_owned()),
            ("PRIORITY", priority(notice).to_string()),
            ("SYSLOG_IDENTIFIER", "detector".to_owned()),
            ("DETECTOR_ID", notice.id.to_string()),
            ("DETECTOR_ALERT", notice.alert.to_string()),
            ("DETECTOR_EVENT", notice.event.to_string()),
            ("DETECTOR_FINDING", finding.id.clone()),
            ("DETECTOR_KIND", finding.kind.as_str().to_owned()),
            ("DETECTOR_SEVERITY", finding.severity.as_str().to_owned()),
            ("DETECTOR_OCSF", ocsf::line(notice, &self.origin)),
        ];
        for (name, value) in fields {
            // Name, line feed, length, value: so that nothing in a value is taken for a field.
            entry.extend(name.as_bytes());
            entry.push(b'\n');
            entry.extend((value.len() as u64).to_le_bytes());
            entry.extend(value.as_bytes());
            entry.push(b'\n');
        }
        entry
    }
}

fn priority(notice: &Notice) -> u8 {
    match notice.severity() {
        _ if notice.event.ends() => 5,
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    }
}

/// Blocks for a moment at most: a journal that is behind is an error.
fn send(path: &Path, entry: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match socket.send_to(entry, path) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS)) => {
            send_file(&socket, path, entry)
        }
        Err(error) => Err(error),
    }
}

fn send_file(socket: &UnixDatagram, path: &Path, entry: &[u8]) -> io::Result<()> {
    let memory: OwnedFd = memfd_create(NAME, MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(entry)?;
    // The journal takes it only when nobody can change it any more.
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    let (to, descriptors) = (UnixAddr::new(path)?, [file.as_raw_fd()]);
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let nothing: [IoSlice<'_>; 0] = [];
    sendmsg(socket.as_raw_fd(), &nothing, &rights, MsgFlags::empty(), Some(&to))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSliceMut, Read, Seek},
        os::fd::{FromRawFd, RawFd},
    };

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    #[test]
    fn what_is_too_large_for_a_datagram_is_a_sealed_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(send(&path, b"nobody is there").is_err());
        let journal = UnixDatagram::bind(&path).unwrap();
        send(&path, b"small").unwrap();
        let mut small = [0; 9];
        assert_eq!(journal.recv(&mut small).unwrap(), 5);

        let large = vec![b'x'; 4 << 20];
        send(&path, &large).unwrap();
        let mut room = nix::cmsg_space!(RawFd);
        let mut buffer = [0; 9];
        let mut into = [IoSliceMut::new(&mut buffer)];
        let received =
            recvmsg::<UnixAddr>(journal.as_raw_fd(), &mut into, Some(&mut room), MsgFlags::empty())
                .unwrap();
        let Some(ControlMessageOwned::ScmRights(rights)) = received.cmsgs().unwrap().next() else {
            panic!("no descriptor");
        };
        // SAFETY: the kernel has just made it for us.
        let mut file = unsafe { File::from_raw_fd(rights[0]) };
        assert!(file.write_all(b"y").is_err(), "nobody changes it any more");
        file.rewind().unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        assert_eq!(text, large);
    }
}
