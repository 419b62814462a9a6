use std::{
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    time::{Duration, Instant},
};

use super::{
    super::{open::open, pools::Reach, verity::testing::Volume},
    *,
};

const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static RUNNING: AtomicBool = AtomicBool::new(false);

fn digest(digests: &Digests, path: &Path) -> Digest {
    digests.digest(&opened(path), &RUNNING).unwrap()
}

fn opened(path: &Path) -> Opened {
    open(path, &Reach::Anything).unwrap()
}

/// Waits until the file is old enough for its digest to be remembered.
fn settle(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !FileState::of(&fs::metadata(path).unwrap()).unwrap().is_settled(SystemTime::now()) {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn a_digest_is_remembered_until_the_file_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, "abc").unwrap();
    settle(&path);
    let digests = Digests::open(dir.path());
    assert_eq!(digests.known(&opened(&path)), None);
    assert_eq!(digest(&digests, &path).to_string(), ABC);
    assert_eq!(digests.known(&opened(&path)).unwrap().to_string(), ABC);
    // Across a restart, too.
    let digests = Digests::open(dir.path());
    assert_eq!(digests.known(&opened(&path)).unwrap().to_string(), ABC);

    // The same size and a modification time that was set back.
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "abd").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    assert_eq!(digests.known(&opened(&path)), None);
    assert_ne!(digest(&digests, &path).to_string(), ABC);

    // Another file in its place.
    fs::write(dir.path().join("other"), "abc").unwrap();
    fs::rename(dir.path().join("other"), &path).unwrap();
    assert_eq!(digest(&digests, &path).to_string(), ABC);
}

#[test]
fn a_file_that_has_just_changed_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let digests = Digests::open(dir.path());
    let path = dir.path().join("image");
    fs::write(&path, "abc").unwrap();
    let far = SystemTime::now() + Duration::from_secs(3600);
    fs::File::options().write(true).open(&path).unwrap().set_modified(far).unwrap();
    assert_eq!(digest(&digests, &path).to_string(), ABC);
    assert_eq!(digests.known(&opened(&path)), None);
}

#[test]
fn a_cache_that_is_not_ours_or_not_whole_is_set_aside() {
    let good = r#"{"version":1,"entries":[]}"#;
    let cases: [(&str, u32, bool); 6] = [
        (good, 0o600, true),
        ("", 0o600, false),
        ("{\"version\":1,\"entr", 0o600, false),
        (r#"{"version":2,"entries":[]}"#, 0o600, false),
        (r#"{"version":1,"entries":[{"dev":1}]}"#, 0o600, false),
        (good, 0o666, false),
    ];
    for (text, mode, used) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("digests.json");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Digests::open(dir.path());
        assert_eq!(path.exists(), used, "{text:?} {mode:o}");
        assert_eq!(dir.path().join("digests.json.bad").exists(), !used, "{text:?} {mode:o}");
    }
}

#[test]
fn the_cache_is_bounded_and_keeps_what_was_used_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, "abc").unwrap();
    settle(&path);
    let digests = Digests::open(dir.path());
    let state = |inode| FileState { dev: u64::MAX, inode, size: 1, mtime_ns: 0, ctime_ns: 0 };
    for inode in 0..MAX_ENTRIES.get() as u64 {
        lock(&digests.memory).files.put(state(inode), Digest([0; 32]));
    }
    // The first is used again, so that the second is the oldest.
    lock(&digests.memory).files.get(&state(0));
    digest(&digests, &path);
    assert!(fs::metadata(dir.path().join("digests.json")).unwrap().len() < 16 << 20);
    for digests in [digests, Digests::open(dir.path())] {
        assert_eq!(lock(&digests.memory).files.len(), MAX_ENTRIES.get());
        assert!(digests.known(&opened(&path)).is_some());
        assert!(lock(&digests.memory).files.contains(&state(0)));
        assert!(!lock(&digests.memory).files.contains(&state(1)));
    }
}

#[test]
fn a_file_that_never_rests_is_given_up_and_so_is_everything_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, "abc").unwrap();
    let opened = opened(&path);
    let before = opened.file.metadata().unwrap();
    fs::write(&path, "abcd").unwrap();
    assert_eq!(read_once(&opened, &before, &RUNNING), Ok(None));
    let stopping = AtomicBool::new(true);
    assert_eq!(read_steady(&opened, &stopping).unwrap_err(), DigestError::Stopping);
}

#[test]
fn one_reader_reads_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, vec![7; 8 << 20]).unwrap();
    settle(&path);
    let digests = Digests::open(dir.path());
    let all = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| digest(&digests, &path))).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect::<BTreeSet<_>>()
    });
    assert_eq!(all.len(), 1);
    assert!(lock(&digests.busy).is_empty());
}

/// A page that is dirty already takes further changes without a trace.
#[test]
fn what_is_written_through_a_mapping_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, vec![0; 4096]).unwrap();
    if !opened(&path).dated {
        return eprintln!("{}: its file system does not tell of changes", path.display());
    }
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: a fresh shared mapping of a page that the file has; nobody else has the pointer.
    let page = unsafe {
        let (all, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        libc::mmap(std::ptr::null_mut(), 4096, all, shared, file.as_raw_fd(), 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: within the mapping, which lives to the end of the test.
    let write = |byte: u8| unsafe { page.cast::<u8>().write_volatile(byte) };
    write(1);
    settle(&path);
    let digests = Digests::open(dir.path());
    let before = digest(&digests, &path);
    assert_eq!(digests.known(&opened(&path)), Some(before));
    write(2);
    assert_eq!(digests.known(&opened(&path)), None);
    assert_ne!(digest(&digests, &path), before);
    // SAFETY: the mapping made above, used no more.
    unsafe { libc::munmap(page, 4096) };
}

#[test]
fn where_times_say_nothing_nothing_is_remembered() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    let path = dir.path().join("image");
    fs::write(&path, "abc").unwrap();
    settle(&path);
    let digests = Digests::open(dir.path());
    assert_eq!(digest(&digests, &path).to_string(), ABC);
    assert_eq!(digests.known(&opened(&path)), None);
}

#[test]
fn what_the_kernel_answers_for_is_known_wherever_it_lies() {
    let Some(volume) = Volume::mount() else { return };
    let file = |name: &str, text: &str, sealed: bool| {
        let path = volume.path().join(name);
        fs::write(&path, text).unwrap();
        if sealed {
            volume.seal(&path);
        }
        path
    };
    let (first, copy) = (file("first", "abc", true), file("copy", "abc", true));
    let (plain, other) = (file("plain", "abc", false), file("other", "abd", true));
    let state = tempfile::tempdir().unwrap();
    let digests = Digests::open(state.path());
    assert_eq!(digests.known(&opened(&first)), None);
    assert_eq!(digest(&digests, &first).to_string(), ABC);
    for digests in [digests, Digests::open(state.path())] {
        for known in [&first, &copy] {
            assert_eq!(digests.known(&opened(known)).unwrap().to_string(), ABC, "{known:?}");
        }
        // The same contents, but nobody answers for them; and others.
        for unknown in [&plain, &other] {
            assert_eq!(digests.known(&opened(unknown)), None, "{unknown:?}");
        }
    }
}
