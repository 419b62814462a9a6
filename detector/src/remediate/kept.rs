//! What is under way with a VM, as a file of its own that outlasts whoever works on it.

use std::{
    fs, io,
    marker::PhantomData,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::storage::StorageError;
use crate::leases::replace;

const VERSION: u32 = 1;
/// Some descriptions of 4 MiB, as text in JSON, and little else.
const LARGEST: u64 = 64 << 20;

/// A directory of such files.
#[derive(Debug)]
pub(super) struct Kept<What> {
    directory: PathBuf,
    of: PhantomData<fn() -> What>,
}

#[derive(Serialize, Deserialize)]
struct Versioned<What> {
    version: u32,
    what: What,
}

impl<What> Clone for Kept<What> {
    fn clone(&self) -> Self {
        Self { directory: self.directory.clone(), of: PhantomData }
    }
}

impl<What: Serialize + DeserializeOwned> Kept<What> {
    /// In a directory of the state directory.
    pub(super) fn new(state: &Path, name: &str) -> Self {
        Self { directory: state.join(name), of: PhantomData }
    }

    fn path(&self, vm: Uuid) -> PathBuf {
        self.directory.join(format!("{vm}.json"))
    }

    /// What is under way with a VM.
    ///
    /// # Errors
    ///
    /// It cannot be read, so that nothing may be begun on top of it.
    pub(super) fn read(&self, vm: Uuid) -> Result<Option<What>, StorageError> {
        let path = self.path(vm);
        let damaged = |why: &str| {
            StorageError::Refused(format!(
                "{}: {why}; nothing is done on top of it. It says where copies of disks are: look for volumes with \
                 {vm} in their names, then put it aside",
                path.display()
            ))
        };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damaged(&error.to_string())),
            Ok(found) if found.len() > LARGEST => return Err(damaged("it is too large")),
            Ok(_) => {}
        }
        let text = fs::read(&path).map_err(|error| damaged(&error.to_string()))?;
        let read: Versioned<What> =
            serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
        if read.version != VERSION {
            return Err(damaged(&format!("version {}; expected {VERSION}", read.version)));
        }
        Ok(Some(read.what))
    }

    /// On the disk when this returns.
    pub(super) fn write(&self, vm: Uuid, what: &What) -> Result<(), StorageError> {
        let path = self.path(vm);
        let kept = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            replace(&path, &serde_json::to_vec(&Versioned { version: VERSION, what })?)
        };
        kept().map_err(|error: io::Error| {
            StorageError::Failed(format!("{} cannot be written: {error}", path.display()))
        })
    }

    pub(super) fn forget(&self, vm: Uuid) -> Result<(), StorageError> {
        match fs::remove_file(self.path(vm)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::Failed(format!("{}: {error}", self.path(vm).display())))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_damaged_stays_where_it_is_and_nothing_is_done_on_top_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept::<Vec<String>>::new(directory.path(), "moves");
        let vm = Uuid::from_u128(7);
        assert_eq!(kept.read(vm).unwrap(), None);
        kept.forget(vm).unwrap();
        let what = vec!["one".to_owned()];
        kept.write(vm, &what).unwrap();
        assert_eq!(kept.read(vm).unwrap(), Some(what));
        let path = kept.path(vm);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(&kept.directory)), (0o600, 0o700));
        let whole = fs::read(&path).unwrap();
        let other =
            String::from_utf8(whole.clone()).unwrap().replace("\"version\":1", "\"version\":2");
        for damaged in [&b""[..], b"{}", &whole[..whole.len() - 1], other.as_bytes()] {
            fs::write(&path, damaged).unwrap();
            let error = kept.read(vm).unwrap_err();
            assert!(
                matches!(&error, StorageError::Refused(why) if why.contains("nothing is done"))
            );
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
        kept.forget(vm).unwrap();
        assert_eq!(kept.read(vm).unwrap(), None);
    }
}
