//! Making the socket, without taking it from a daemon that answers on it.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another daemon answers on {0}: stop it, or give this one another --socket")]
    InUse(PathBuf),
    #[error("{0} exists and is no socket: move it away, or set paths.socket")]
    NoSocket(PathBuf),
    #[error("no group {0:?} on this host: create it, or correct api.group")]
    NoGroup(String),
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// The id of a group by name.
pub fn group_id(name: &str) -> Result<u32, SocketError> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(SocketError::NoGroup(name.to_owned())),
    }
}

/// Binds the socket, mode 0660, owned by `group`. A socket that nobody answers on is replaced, and
/// a connection is never accepted before owner and mode are set.
pub fn bind(path: &Path, group: Option<u32>) -> Result<UnixListener, SocketError> {
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
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o660))
        .map_err(failed("cannot set the mode of"))?;
    if let Some(gid) = group {
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
