//! Who is at the other end of a connection, and what they may ask.

use std::{io, os::fd::AsRawFd};

use tokio::net::UnixStream;

/// The process at the other end, as the kernel recorded it when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    /// Its number; 0 where the kernel does not say.
    pub pid: i32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The user that the daemon runs as.
    pub uid: u32,
    /// The group whose members may use the socket.
    pub group: Option<u32>,
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    Nothing,
    /// Everything that an operator does.
    Operate,
    /// Also what only root and the host's own software do: change the mode, hand in a VM that is about to
    /// start.
    Admit,
}

impl Access {
    pub fn right(&self, peer: &Peer) -> Right {
        if peer.uid == 0 || peer.uid == self.uid {
            return Right::Admit;
        }
        match self.group {
            Some(group) if peer.gid == group || peer.groups.contains(&group) => Right::Operate,
            _ => Right::Nothing,
        }
    }
}

impl Peer {
    /// Asks the kernel (`SO_PEERCRED`, `SO_PEERGROUPS`; unix(7)).
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let pid = credentials.pid().unwrap_or_default();
        Ok(Self { uid, gid, pid, groups: groups(stream)? })
    }
}

fn groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    // NGROUPS_MAX of Linux; more cannot be set.
    let mut groups = vec![0u32; 65_536];
    let mut bytes =
        libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the time of the call, the buffer is `bytes` long, and the
    // kernel writes at most that many and sets `bytes` to how many it wrote.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(bytes as usize / size_of::<u32>());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights() {
        let access = Access { uid: 990, group: Some(44) };
        let closed = Access { uid: 990, group: None };
        let cases = [
            (0, 0, &[][..], Right::Admit, Right::Admit),
            (990, 990, &[], Right::Admit, Right::Admit),
            (1000, 1000, &[], Right::Nothing, Right::Nothing),
            (1000, 44, &[], Right::Operate, Right::Nothing),
            (1000, 1000, &[4, 44], Right::Operate, Right::Nothing),
            (1000, 0, &[0], Right::Nothing, Right::Nothing),
        ];
        for (uid, gid, groups, open_to_group, otherwise) in cases {
            let peer = Peer { uid, gid, pid: 1, groups: groups.to_vec() };
            assert_eq!(access.right(&peer), open_to_group, "{peer:?}");
            assert_eq!(closed.right(&peer), otherwise, "{peer:?}");
        }
    }
}
