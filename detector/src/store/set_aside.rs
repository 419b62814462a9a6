use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::StoreError;

/// A damaged file that has been moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now; what belongs to it is beside it.
    pub path: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

/// Moves a file and what SQLite keeps beside it (`-wal`, `-shm`) to a name with the time in it. Nothing of it is
/// deleted: it may hold what somebody can still read. No connection to it may be open.
///
/// # Errors
///
/// It is where it was.
pub fn set_aside(path: &Path, why: &str) -> Result<SetAside, StoreError> {
    let time = compact(Timestamp::now());
    let free = (0u32..).find_map(|number| {
        let number = if number == 0 { String::new() } else { format!(".{number}") };
        let target = with_suffix(path, &format!(".damaged-{time}{number}"));
        // `symlink_metadata` sees what `exists` does not: a link that leads nowhere.
        target.symlink_metadata().is_err().then_some(target)
    });
    let Some(target) = free else {
        return Err(StoreError::io(path, io::ErrorKind::AlreadyExists.into()));
    };
    fs::rename(path, &target).map_err(|why| StoreError::io(path, why))?;
    for suffix in ["-wal", "-shm"] {
        let companion = with_suffix(path, suffix);
        match fs::rename(&companion, with_suffix(&target, suffix)) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io(&companion, why));
            }
            _ => {}
        }
    }
    Ok(SetAside { path: target, why: why.to_owned() })
}

/// A moment in a file's name, to the second, such as `20261129T134620Z`.
fn compact(time: Timestamp) -> String {
    let text = time.to_string();
    let seconds = text.split(['.', 'Z']).next().unwrap_or_default();
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(suffix);
    name.into()
}
