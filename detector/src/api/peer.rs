//! Who is at the other end of a connection, and what they may ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsRawFd,
};

use tokio::net::UnixStream;

use super::role::Role;

/// The process at the other end, as the kernel recorded it when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    /// Its number; 0 where the kernel does not say.
    pub pid: i32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The person in whose name it says that it asks. It proves nothing, and gives no right.
    pub on_behalf: Option<String>,
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The user that the daemon runs as.
    pub uid: u32,
    pub roles: BTreeMap<Role, Members>,
}

/// Who has a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub uids: BTreeSet<u32>,
    pub gids: BTreeSet<u32>,
}

impl Members {
    fn include(&self, peer: &Peer) -> bool {
        let mut groups = peer.groups.iter().chain([&peer.gid]);
        self.uids.contains(&peer.uid) || groups.any(|group| self.gids.contains(group))
    }
}

impl Access {
    /// The highest role that the peer has; `None` for whoever may ask nothing.
    pub fn role(&self, peer: &Peer) -> Option<Role> {
        if self.is_host(peer) {
            return Some(Role::Administer);
        }
        let held = self.roles.iter().filter(|(_, members)| members.include(peer));
        held.map(|(role, _)| *role).max()
    }

    /// Whether it is root or the daemon's own user, whom nobody may keep out.
    pub fn is_host(&self, peer: &Peer) -> bool {
        peer.uid == 0 || peer.uid == self.uid
    }

    /// Whether it comes as the daemon's own user, where that is not root: provisioners run as that, too.
    pub fn may_be_a_provisioner(&self, peer: &Peer) -> bool {
        peer.uid != 0 && peer.uid == self.uid
    }
}

impl Peer {
    /// Asks the kernel (`SO_PEERCRED`, `SO_PEERGROUPS`; unix(7)).
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let pid = credentials.pid().unwrap_or_default();
        Ok(Self { uid, gid, pid, groups: groups(stream)?, on_behalf: None })
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
    fn roles() {
        let members = |uids: &[u32], gids: &[u32]| Members {
            uids: uids.iter().copied().collect(),
            gids: gids.iter().copied().collect(),
        };
        let roles = [
            (Role::View, members(&[1001], &[43])),
            (Role::Operate, members(&[], &[44])),
            (Role::Administer, members(&[1002], &[])),
        ];
        let access = Access { uid: 990, roles: roles.into() };
        let closed = Access { uid: 990, roles: BTreeMap::new() };
        let (view, operate, administer) =
            (Some(Role::View), Some(Role::Operate), Some(Role::Administer));
        let cases = [
            (0, 0, &[][..], administer, administer),
            (990, 990, &[], administer, administer),
            (1000, 1000, &[], None, None),
            (1000, 44, &[], operate, None),
            (1000, 1000, &[4, 44], operate, None),
            (1000, 1000, &[43, 44], operate, None),
            (1000, 1000, &[43], view, None),
            (1001, 1001, &[], view, None),
            (1001, 1001, &[44], operate, None),
            (1002, 1002, &[43], administer, None),
            // A group's number is no user's.
            (44, 1000, &[1002], None, None),
            (1000, 0, &[0], None, None),
        ];
        for (uid, gid, groups, open, otherwise) in cases {
            let peer = Peer { uid, gid, pid: 1, groups: groups.to_vec(), on_behalf: None };
            assert_eq!(access.role(&peer), open, "{peer:?}");
            assert_eq!(closed.role(&peer), otherwise, "{peer:?}");
            assert_eq!(access.may_be_a_provisioner(&peer), uid == 990, "{peer:?}");
            let root = Access { uid: 0, roles: BTreeMap::new() };
            assert!(!root.may_be_a_provisioner(&peer), "{peer:?}");
        }
    }
}
