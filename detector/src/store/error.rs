use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Error, ErrorCode};

/// Why a file cannot be used. Each names the file and the way out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no {what} at {}: the daemon makes it when it first starts", path.display())]
    Absent { what: &'static str, path: PathBuf },
    #[error(
        "{} is of a newer detector: its tables have version {found}, and this build knows {known}. Install the \
         newer one again, or move the file away to begin anew",
        path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{} is of an older detector: its tables have version {found}, and this build reads {known}. The daemon \
         brings it up to date when it starts",
        path.display()
    )]
    Older { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{} is a database of another program (application id {found:#x}): move it away, or set paths.state to a \
         directory of detector's own",
        path.display()
    )]
    Foreign { path: PathBuf, found: i32 },
    #[error("{} is damaged ({why}): the daemon sets it aside and begins a new one", path.display())]
    Corrupt { path: PathBuf, why: String },
    #[error("{}: {why}; {}", path.display(), way_out(why))]
    Unusable { path: PathBuf, why: Error },
    #[error("{}: {why}", path.display())]
    Io { path: PathBuf, why: io::Error },
}

impl StoreError {
    /// What an error of SQLite means for the file.
    pub fn of(path: &Path, why: Error) -> Self {
        let path = path.to_owned();
        match is_corrupt(&why) {
            true => Self::Corrupt { path, why: why.to_string() },
            false => Self::Unusable { path, why },
        }
    }

    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    pub(super) fn io(path: &Path, why: io::Error) -> Self {
        Self::Io { path: path.to_owned(), why }
    }
}

/// Whether what is in the file is to blame, and not its surroundings.
fn is_corrupt(error: &Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase),
        // A value of another type than its column has, or no text.
        None => matches!(
            error,
            Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::InvalidColumnType(..)
                | Error::Utf8Error(..)
        ),
    }
}

fn way_out(error: &Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "make room on its file system",
        Some(ErrorCode::ReadOnly) => "mount its file system writable, or set paths.state elsewhere",
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "see that its directory is there, and that whoever asks may use it (root may)"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process holds it: see `fuser` which, and try again"
        }
        Some(ErrorCode::SystemIoFailure) => "see `dmesg` for its disk",
        _ => "see the log of the daemon",
    }
}
