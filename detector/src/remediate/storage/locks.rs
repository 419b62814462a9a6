//! Who has an image in use.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
};

use crate::escape::escape;

/// Processes that are looked at for who has a file open.
const MOST_PROCESSES: usize = 65_536;

/// Who holds a lock on any part of the file: QEMU and its tools lock bytes of an image that they have open, and
/// virtlockd the first one (fcntl(2)). `None` where nobody does.
pub(super) fn holder(file: &File) -> io::Result<Option<String>> {
    // SAFETY: all zero is a valid flock: from the first byte on, all of it.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open, and the lock is written to during the call only.
    let told = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if told < 0 {
        return Err(io::Error::last_os_error());
    }
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return Ok(None);
    }
    // Locks of an open file, which QEMU takes, are nobody's in particular.
    let who = match lock.l_pid {
        pid if pid > 0 => Some(process(pid.unsigned_abs())),
        _ => opened_by(file),
    };
    Ok(Some(who.unwrap_or_else(|| {
        "a program that this process may not look into (fuser -v tells root which)".to_owned()
    })))
}

fn process(pid: u32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", escape(String::from_utf8_lossy(&name).trim()))
}

/// A process that has the file open, of those that can be looked into.
fn opened_by(file: &File) -> Option<String> {
    let wanted = file.metadata().ok()?;
    let own = std::process::id();
    let processes = fs::read_dir("/proc").ok()?.take(MOST_PROCESSES);
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: u32| {
        let descriptors = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"));
        descriptors.into_iter().flatten().any(|entry| {
            let found = entry.and_then(|entry| fs::metadata(entry.path()));
            found.is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
        })
    };
    let mut pids = pids.filter(|pid| *pid != own);
    pids.find(|pid| holds(*pid)).map(process)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn whoever_holds_a_lock_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        fs::write(&path, vec![0; 1 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(holder(&file).unwrap(), None);
        let mut tool = Command::new("qemu-io");
        let mut tool = tool
            .args(["-f", "raw"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut prompt = [0; 7];
        io::Read::read_exact(tool.stdout.as_mut().unwrap(), &mut prompt).unwrap();
        let who = holder(&file).unwrap().unwrap();
        assert!(who.contains("qemu-io") && who.contains(&tool.id().to_string()), "{who}");
        drop(tool.stdin.take());
        tool.wait().unwrap();
        assert_eq!(holder(&file).unwrap(), None);
    }
}
