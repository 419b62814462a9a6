//! OCSF events as lines of JSON in a file, which is bounded and on the disk before it counts as written.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Delivered, Failure, blocking};
use crate::{
    alert::{host::Origin, notice::Notice, ocsf},
    config::alerts::FileSink,
};

#[derive(Debug)]
pub(super) struct File {
    keys: FileSink,
    origin: Arc<Origin>,
}

impl File {
    pub(super) fn new(keys: &FileSink, origin: &Arc<Origin>) -> Self {
        Self { keys: keys.clone(), origin: Arc::clone(origin) }
    }

    pub(super) fn target(&self) -> String {
        self.keys.path.display().to_string()
    }

    pub(super) async fn deliver(&self, notices: &[Notice]) -> Delivered {
        let mut lines = String::new();
        for notice in notices {
            lines.push_str(&ocsf::line(notice, &self.origin));
            lines.push('\n');
        }
        let FileSink { path, max_mib, keep, .. } = self.keys.clone();
        blocking(move || {
            append(&path, lines.as_bytes(), u64::from(max_mib) << 20, keep)
                .map_err(|error| Failure::later("cannot write", error))
        })
        .await
    }
}

/// Appends whole lines, or none. Blocks.
fn append(path: &Path, lines: &[u8], most: u64, keep: u32) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() >= most) {
        rotate(path, keep)?;
    }
    let mut options = OpenOptions::new();
    // What has no reader, such as a FIFO, is an error rather than a wait.
    options.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK);
    let mut file = options.open(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if written.is_err() {
        // Half a line would spoil the next one.
        let _ = file.set_len(before);
    }
    written
}

/// `alerts.jsonl` becomes `alerts.jsonl.1`, and so on up to `keep`.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return fs::remove_file(path);
    }
    for number in (1..keep).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_bounded_and_so_are_those_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.jsonl");
        for number in 0..7 {
            append(&path, format!("{number}\n").as_bytes(), 4, 2).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("a.jsonl"), "6\n");
        assert_eq!([read("a.jsonl.1"), read("a.jsonl.2")], ["4\n5\n", "2\n3\n"]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        append(&path, b"7\n", 1, 0).unwrap();
        assert_eq!(read("a.jsonl"), "7\n");
    }

    #[test]
    fn what_is_no_file_is_an_error_and_no_wait() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(append(&fifo, b"x\n", 1 << 20, 1).is_err());
        assert!(append(directory.path(), b"x\n", 1 << 20, 1).is_err());
    }
}
