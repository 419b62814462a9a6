//! Whether the daemon was told to end: whoever needs it then knows that nobody may start it again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::leases::{boot_id, replace};

const NAME: &str = "stopped";

/// The mark that a daemon leaves which was told to end, and takes away when it starts.
#[derive(Clone, Debug)]
pub(crate) struct StopMark {
    path: PathBuf,
}

impl StopMark {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(NAME) }
    }

    pub(crate) fn set(&self) -> io::Result<()> {
        replace(&self.path, boot_id().as_bytes())
    }

    pub(crate) fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// How long ago it was told to end. `None` where it was not, such as after a crash, or not since the
    /// host was started.
    pub(crate) fn age(&self) -> Option<Duration> {
        let boot = fs::read_to_string(&self.path).ok()?;
        let set = fs::metadata(&self.path).and_then(|meta| meta.modified()).ok()?;
        // A clock that was set back makes it young, never old.
        (boot == boot_id()).then(|| set.elapsed().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_mark_is_of_this_boot_and_has_an_age() {
        let directory = tempfile::tempdir().unwrap();
        let mark = StopMark::new(directory.path());
        assert_eq!(mark.age(), None);
        mark.clear().unwrap();
        mark.set().unwrap();
        let file = || fs::File::options().write(true).open(directory.path().join(NAME)).unwrap();
        for (seconds, expected) in [(100, 100), (-100, 0)] {
            let now = SystemTime::now();
            let then = match u64::try_from(seconds) {
                Ok(seconds) => now - Duration::from_secs(seconds),
                Err(_) => now + Duration::from_secs(100),
            };
            file().set_modified(then).unwrap();
            assert_eq!(mark.age().map(|age| age.as_secs()), Some(expected));
        }
        fs::write(directory.path().join(NAME), "another boot").unwrap();
        assert_eq!(mark.age(), None);
        mark.clear().unwrap();
        assert_eq!(mark.age(), None);
    }
}
