//! Making the socket, without taking it from a daemon that answers on it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use super::{peer::Members, role::Role};
use crate::config::{Api, Roles};

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another daemon answers on {0}: stop it, or give this one another --socket")]
    InUse(PathBuf),
    #[error("{0} exists and is no socket: move it away, or set paths.socket")]
    NoSocket(PathBuf),
    #[error("no group {name:?} on this host: create it, or correct {key}")]
    NoGroup { name: String, key: String },
    #[error(
        "no user {name:?} on this host: create it, or correct {key} (a group is written \"@{name}\")"
    )]
    NoUser { name: String, key: String },
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// Whom the socket lets in, besides root and the daemon's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// The group that owns the socket.
    pub group: Option<u32>,
    pub roles: BTreeMap<Role, Members>,
}

impl Doors {
    /// Looks up who is configured. Blocks: users may be looked up over a network.
    ///
    /// # Errors
    ///
    /// Whom there is not on this host.
    pub fn of(api: &Api, roles: &Roles) -> Result<Self, SocketError> {
        let mut found = Self::default();
        for (role, names) in roles.all() {
            let key = format!("roles.{}", role.as_str());
            for name in names {
                let members = found.roles.entry(role).or_default();
                match name.strip_prefix('@') {
                    Some(group) => drop(members.gids.insert(group_id(group, &key)?)),
                    None => drop(members.uids.insert(user_id(name, &key)?)),
                }
            }
        }
        if let Some(name) = &api.group {
            let group = group_id(name, "api.group")?;
            found.group = Some(group);
            found.roles.entry(Role::Operate).or_default().gids.insert(group);
        }
        Ok(found)
    }

    /// With one group the kernel keeps everybody else out; with more there is no mode that would, and the
    /// daemon tells who connects what they lack.
    fn mode(&self) -> u32 {
        let mut members = self.roles.values();
        let only = |members: &Members| {
            members.uids.is_empty() && members.gids.iter().all(|gid| Some(*gid) == self.group)
        };
        if members.all(only) { 0o660 } else { 0o666 }
    }
}

fn group_id(name: &str, key: &str) -> Result<u32, SocketError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(SocketError::NoGroup { name: name.to_owned(), key: key.to_owned() }),
    }
}

fn user_id(name: &str, key: &str) -> Result<u32, SocketError> {
    if let Ok(uid) = name.parse() {
        return Ok(uid);
    }
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(SocketError::NoUser { name: name.to_owned(), key: key.to_owned() }),
    }
}

/// Binds the socket, open to whom `doors` name. A socket that nobody answers on is replaced, and
/// a connection is never accepted before owner and mode are set.
pub fn bind(path: &Path, doors: &Doors) -> Result<UnixListener, SocketError> {
    let failed = |what| {
        let path = path.to_owned();
        move |source| SocketError::Io { what, path, source }
    };
    refuse_in_use(path)?;
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(failed("cannot create the directory of"))?;
    }
    // Bound under another name and moved into place, so that nobody connects before the mode is set.
    let staged = staged(path);
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("cannot remove a left-over of")(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&staged).map_err(failed("cannot bind"))?;
    fs::set_permissions(&staged, fs::Permissions::from_mode(doors.mode()))
        .map_err(failed("cannot set the mode of"))?;
    if let Some(gid) = doors.group {
        std::os::unix::fs::chown(&staged, None, Some(gid))
            .map_err(failed("cannot set the group of"))?;
    }
    fs::rename(&staged, path).map_err(failed("cannot move into place"))?;
    listener.set_nonblocking(true).map_err(failed("cannot set up"))?;
    Ok(listener)
}

fn staged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    name.into()
}

fn refuse_in_use(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(_) => Ok(()),
    }
}
