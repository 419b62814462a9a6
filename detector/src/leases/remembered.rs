//! Leases that are kept over a restart of the host, or a change of the maps' schema: the maps
//! themselves outlive only the daemon.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use detector_core::model::KnownLease;

use super::replace;

const NAME: &str = "leases.json";

/// The file that leases are kept in.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    path: PathBuf,
}

impl Remembered {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(NAME) }
    }

    /// What was kept; nothing where it cannot be read.
    pub(super) fn read(&self) -> Vec<KnownLease> {
        let read = fs::read(&self.path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %self.path.display(), %error, "leases of before are lost");
            }
            Vec::new()
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps these instead.
    pub(crate) fn write(&self, leases: &[KnownLease]) {
        let written = serde_json::to_vec(leases)
            .map_err(io::Error::from)
            .and_then(|bytes| replace(&self.path, &bytes));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "leases cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use detector_common::addr::Mac;
    use detector_core::model::Timestamp;

    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let remembered = Remembered::new(directory.path());
        assert_eq!(remembered.read(), []);
        let lease = |address: &str, expires| KnownLease {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            vlan: 5,
            bridge: Some("br0".to_owned()),
            address: address.parse().unwrap(),
            expires,
            from_file: false,
        };
        let leases = [lease("192.0.2.1", Some(Timestamp(7))), lease("2001:db8::1", None)];
        for _ in 0..2 {
            remembered.write(&leases);
            assert_eq!(remembered.read(), leases);
        }
        fs::write(directory.path().join(NAME), "{").unwrap();
        assert_eq!(remembered.read(), []);
    }
}
