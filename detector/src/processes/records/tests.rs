use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
    time::{Duration, SystemTime},
};

use nix::fcntl::FdFlag;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn put(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path
}

/// As if the clock had said so when it was written.
fn dated(path: &Path, when: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(when).unwrap();
}

fn id(pid: u32) -> ProcessId {
    ProcessId { pid, started: 1 }
}

#[test]
fn records_that_count() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    put(path, "web1.pid", "4711\n", 0o600);
    put(path, "web2.pid", "4712", 0o666);
    put(path, "web3.pid", "not a number", 0o600);
    put(path, "web4.txt", "4714", 0o600);
    put(path, "a.b.pid", "4715", 0o644);
    let mut records = Records::new(vec![path.to_owned(), "/nonexistent".into()]);
    let now = clock::now();
    records.look(now);
    let names: Vec<_> =
        (4711..4716).map(|pid| records.name_of(id(pid), now).unwrap_or_default()).collect();
    assert_eq!(names, ["web1", "", "", "", "a.b"]);

    // Of what was there before the first look the time of day has to be believed.
    let after = Timestamp(now.0 + 60_000);
    let mut records = Records::new(vec![path.to_owned()]);
    records.look(now);
    assert_eq!(records.name_of(id(4711), after), None);

    // Whoever holds the lock is the one, whatever the clock said.
    let web1 = path.join("web1.pid");
    let file = fs::File::options().write(true).open(&web1).unwrap();
    let mut command = Command::new("sleep");
    // SAFETY: only fcntl is called between fork and exec, on a descriptor that is open.
    unsafe {
        command.arg("60").pre_exec(move || {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_WRLCK as i16;
            fcntl(&file, FcntlArg::F_SETLK(&lock))?;
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
    let mut holder = command.spawn().unwrap();
    let locked = holder.id();
    fs::write(&web1, locked.to_string()).unwrap();
    records.look(now);
    assert_eq!(records.name_of(id(locked), Timestamp(u64::MAX)).as_deref(), Some("web1"));
    // And nobody else.
    fs::write(&web1, "4711").unwrap();
    records.look(now);
    assert_eq!(records.name_of(id(4711), Timestamp(0)), None);
    holder.kill().unwrap();
    holder.wait().unwrap();
    records.look(now);
    assert_eq!(records.name_of(id(4711), Timestamp(0)).as_deref(), Some("web1"));

    fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    records.look(now);
    assert_eq!(records.name_of(id(4715), Timestamp(0)), None);
}

/// Whatever the time of day was when a record was written, and is now.
#[test]
fn a_clock_that_is_set_makes_nobody_a_stranger_and_no_stranger_known() {
    let directory = tempfile::tempdir().unwrap();
    for (number, clock_then) in
        [SystemTime::UNIX_EPOCH, SystemTime::now(), SystemTime::now() + 9000 * DAY]
            .iter()
            .enumerate()
    {
        let mut records = Records::new(vec![directory.path().to_owned()]);
        let now = clock::now();
        records.look(now);
        let path = put(directory.path(), &format!("vm{number}.pid"), "4711", 0o600);
        dated(&path, *clock_then);
        let later = |seconds: u64| Timestamp(now.0 + seconds * 1000);
        records.look(later(10));
        // A number that was given out again after the record had been seen.
        assert_eq!(records.name_of(ProcessId { pid: 4711, started: 9 }, later(13)), None);
        let known = records.name_of(id(4711), later(5));
        assert!(known.is_some(), "{clock_then:?}");
        // Again and again, and its successor is another one, however old it says it is.
        records.look(later(20));
        assert_eq!(records.name_of(id(4711), later(5)), known);
        assert_eq!(records.name_of(ProcessId { pid: 4711, started: 9 }, later(4)), None);
        // A record that is written anew is another one.
        dated(&path, *clock_then + DAY);
        records.look(later(30));
        assert!(records.name_of(ProcessId { pid: 4711, started: 9 }, later(25)).is_some());
        fs::remove_file(path).unwrap();
    }
}
