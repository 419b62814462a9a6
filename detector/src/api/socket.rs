//! Making the socket, without taking it from a daemon that answers on it.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
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
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// Whom the socket lets in, besides root and the daemon's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// The group that owns the socket.
    pub group: Option<u32>,
    pub roles: BTreeMap<Role, Members>,
    /// Whom nobody on this host knows, so that they have no role.
    pub unknown: Vec<Named>,
}

/// Somebody whom the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As it is written there: of a group behind an `@`.
    pub name: String,
    /// Where.
    pub key: String,
    role: Role,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}", self.name, self.key)
    }
}

impl Doors {
    /// Looks up who is configured, in this host's own files only: others may be looked up over a network, which
    /// nothing that guards waits for.
    pub fn of(api: &Api, roles: &Roles) -> Self {
        let all = roles.all().into_iter().flat_map(|(role, names)| {
            let key = format!("roles.{}", role.as_str());
            names.iter().map(move |name| Named { name: name.clone(), key: key.clone(), role })
        });
        let group = api.group.iter().map(|group| Named {
            name: format!("@{group}"),
            key: "api.group".to_owned(),
            role: Role::Operate,
        });
        let mut doors = Self { unknown: all.chain(group).collect(), ..Self::default() };
        doors.find(|name| listed(GROUPS, name), |name| listed(USERS, name));
        doors.group = api.group.as_deref().and_then(|name| listed(GROUPS, name));
        doors
    }

    /// Looks up everywhere who is still unknown; the others keep their roles. Blocks.
    pub fn look_up(&mut self) {
        self.find(group_id, user_id);
    }

    fn find(&mut self, group: impl Fn(&str) -> Option<u32>, user: impl Fn(&str) -> Option<u32>) {
        for named in std::mem::take(&mut self.unknown) {
            let found = match named.name.strip_prefix('@') {
                Some(name) => group(name).map(|gid| self.members(named.role).gids.insert(gid)),
                None => user(&named.name).map(|uid| self.members(named.role).uids.insert(uid)),
            };
            if found.is_none() {
                self.unknown.push(named);
            }
        }
    }

    fn members(&mut self, role: Role) -> &mut Members {
        self.roles.entry(role).or_default()
    }

    /// With one group the kernel keeps everybody else out; with more there is no mode that would, and the
    /// daemon tells who connects what they lack. Who becomes known later finds it open to them.
    fn mode(&self) -> u32 {
        let mut members = self.roles.values();
        let only = |members: &Members| {
            members.uids.is_empty() && members.gids.iter().all(|gid| Some(*gid) == self.group)
        };
        if self.unknown.is_empty() && members.all(only) { 0o660 } else { 0o666 }
    }
}

/// The number of a name in a file like passwd(5) and group(5), or which the name is.
fn listed(file: &str, name: &str) -> Option<u32> {
    let number = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    };
    let known = || fs::read_to_string(file).ok()?.lines().find_map(number);
    name.parse().ok().or_else(known)
}

fn group_id(name: &str) -> Option<u32> {
    Some(nix::unistd::Group::from_name(name).ok()??.gid.as_raw())
}

fn user_id(name: &str) -> Option<u32> {
    Some(nix::unistd::User::from_name(name).ok()??.uid.as_raw())
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
