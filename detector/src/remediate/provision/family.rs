//! Everything that a process has started, also what has put itself into another session.
//!
//! Whoever is left by its parent becomes a child of this process (`PR_SET_CHILD_SUBREAPER`), so that all of them are
//! beneath it for as long as they are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long they may take to be gone: the kernel may have to finish something for them.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of a process's environment that are looked at.
const LONGEST_ENVIRONMENT: u64 = 64 << 10;

/// Ends all processes beneath this one. Somebody has to await them meanwhile. How many there were, and whether they are
/// gone.
pub(super) fn end_all() -> (u32, bool) {
    let until = Instant::now() + PATIENCE;
    let mut known = BTreeSet::new();
    loop {
        // Who is stopped starts no others, so that there comes a round in which all are known.
        loop {
            let new: Vec<_> = beneath().difference(&known).copied().collect();
            if new.is_empty() || Instant::now() > until {
                break;
            }
            for pid in new {
                signal(pid, Signal::SIGSTOP);
                known.insert(pid);
            }
        }
        for pid in &beneath() {
            signal(*pid, Signal::SIGKILL);
            known.insert(*pid);
        }
        let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
        if beneath().is_empty() {
            return (count, true);
        }
        if Instant::now() > until {
            return (count, false);
        }
        thread::park_timeout(LOOK);
    }
}

/// Ends all processes that have been started with this directory as their home, which is nobody else's: what is left of a
/// provisioner whose supervisor is gone. Of those that this process may look into.
pub(super) fn end_of(home: &Path) {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = at_home(home);
        if left.is_empty() || Instant::now() > until {
            return;
        }
        for pid in left {
            signal(pid, Signal::SIGKILL);
        }
        thread::park_timeout(LOOK);
    }
}

fn at_home(home: &Path) -> Vec<u32> {
    let wanted = [b"HOME=", home.as_os_str().as_bytes()].concat();
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_there = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok().filter(|pid| *pid != own)?;
        let mut said = Vec::new();
        let file = fs::File::open(entry.path().join("environ")).ok()?;
        file.take(LONGEST_ENVIRONMENT).read_to_end(&mut said).ok()?;
        said.split(|byte| *byte == 0).any(|one| one == wanted).then_some(pid)
    };
    processes.filter_map(is_there).collect()
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // It has ended meanwhile when this fails.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The processes beneath this one that have not ended.
fn beneath() -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Some((state, parent)) =
            fs::read(entry.path().join("stat")).ok().and_then(|text| stat(&text))
        else {
            continue;
        };
        children.entry(parent).or_default().push(pid);
        if matches!(state, b'Z' | b'X') {
            ended.insert(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut left = vec![std::process::id()];
    while let Some(pid) = left.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if found.insert(*child) {
                left.push(*child);
            }
        }
    }
    found.difference(&ended).copied().collect()
}

/// State and parent of a process (proc(5)); its name, in brackets, may hold anything.
fn stat(text: &[u8]) -> Option<(u8, u32)> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = str::from_utf8(text.get(end + 1..)?).ok()?.split_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_home_is_ended_and_nobody_else() {
        let home = tempfile::tempdir().unwrap();
        let other = home.path().join("other");
        let mut started = [home.path(), &other].map(|home| {
            std::process::Command::new("sleep").arg("60").env("HOME", home).spawn().unwrap()
        });
        assert_eq!(at_home(home.path()), [started[0].id()]);
        // Somebody has to await it meanwhile.
        let [ours, theirs] = &mut started;
        thread::scope(|scope| {
            scope.spawn(|| ours.wait().unwrap());
            end_of(home.path());
        });
        assert_eq!(theirs.try_wait().unwrap(), None);
        theirs.kill().unwrap();
        theirs.wait().unwrap();
    }

    #[test]
    fn a_name_says_nothing() {
        assert_eq!(stat(b"9 (a) Z 1 (b) S 7 9 9"), Some((b'S', 7)));
        assert_eq!(stat(b"9 (a"), None);
        assert_eq!(stat(b"9 (a)"), None);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(beneath().contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!beneath().contains(&child.id()));
    }
}
