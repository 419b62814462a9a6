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
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
    },
};

/// Where it listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";
/// The name of the file in memory, for whoever looks.
const NAME: &CStr = c"detector-journal";

/// An entry of these fields, whatever is in them.
pub(crate) fn entry<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Vec<u8> {
    let mut entry = Vec::new();
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

/// Blocks for a moment at most: a journal that is behind is an error.
pub(crate) fn send(path: &Path, entry: &[u8]) -> io::Result<()> {
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
