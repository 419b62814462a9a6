use std::{
    io::Write,
    os::unix::fs::MetadataExt,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::unistd::{ForkResult, fork};

use super::*;
use crate::registry::qcow2::{MAGIC, read_at_most};

mod fuse;

/// Long enough for a process to start on a busy machine.
const SOON: Duration = Duration::from_secs(2);
/// What a run of this test program is to be.
const PART: &str = "DETECTOR_READER_PART";

impl Doorkeeper {
    /// The program that tests run in is not the one whose command line has a word for it.
    pub(super) fn of_this_program() -> io::Result<Self> {
        as_part("doorkeeper")
    }
}

fn as_part(part: &str) -> io::Result<Doorkeeper> {
    Doorkeeper::run(this_program(part))
}

fn this_program(part: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "registry::reader::tests::plays_a_part", "--nocapture"]);
    command.env(PART, part);
    command
}

#[test]
fn plays_a_part() {
    match std::env::var(PART).as_deref() {
        Ok("doorkeeper") => serve().unwrap(),
        Ok("flawed") => doorkeeper::attend(flawed, plain).unwrap(),
        Ok("unlucky") => doorkeeper::attend(flawed, unlucky).unwrap(),
        Ok("file system") => fuse::serve(),
        Ok("stuck") => readers_are_stuck(),
        _ => {}
    }
}

fn plain() -> nix::Result<ForkResult> {
    // SAFETY: as a doorkeeper this program has one thread.
    unsafe { fork() }
}

/// There is room for a process now and then only.
fn unlucky() -> nix::Result<ForkResult> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    match TRIED.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => Err(Errno::EAGAIN),
        _ => plain(),
    }
}

/// A reader that does what the first byte of its file says.
fn flawed(_: Question, file: &File, replies: &std::os::fd::OwnedFd) -> io::Result<Answer> {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    match read_at_most(file, 1)?.first() {
        Some(b'o') => drop(File::open("/etc/shadow")?),
        Some(b'p') => panic!("it broke"),
        Some(b'c') => loop {
            std::hint::spin_loop();
        },
        Some(b'm') => loop {
            hoard.push(vec![1; 1 << 20]);
        },
        Some(b'l') => {
            nix::sys::socket::send(
                std::os::fd::AsRawFd::as_raw_fd(replies),
                b"not what is said here",
                nix::sys::socket::MsgFlags::empty(),
            )?;
        }
        _ => {}
    }
    Ok(Answer::Header { header: Header { backing: None }, start: None })
}

fn file(contents: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(contents).unwrap();
    file
}

fn id(file: &File) -> Inode {
    let metadata = file.metadata().unwrap();
    (metadata.dev(), metadata.ino())
}

#[test]
fn a_reader_that_breaks_takes_nobody_along() {
    let reader = Reader::new(|| as_part("flawed"), SOON);
    let read = |byte: u8| {
        let file = file(&[byte]);
        reader.header(&file, id(&file)).map_err(|error| error.to_string())
    };
    let fine = Ok(Header { backing: None });
    assert_eq!(read(b' '), fine);
    let door = lock(&reader.door).doorkeeper.as_ref().map(Doorkeeper::pid);
    for (byte, what) in [
        (b'o', "it may not open a file"),
        (b'p', "it panics"),
        (b'm', "it takes all memory"),
        (b'l', "it says what is no answer"),
    ] {
        let error = read(byte).expect_err(what);
        assert!(error.contains("has ended without an answer"), "{what}: {error}");
        assert_eq!(read(b' '), fine, "after: {what}");
    }
    let error = read(b'c').expect_err("it goes round in circles");
    assert!(error.contains("has not answered"), "{error}");
    assert_eq!(
        lock(&reader.door).doorkeeper.as_ref().map(Doorkeeper::pid),
        door,
        "one door for all"
    );
}

#[test]
fn a_process_that_cannot_be_started_is_started_later() {
    let reader = Reader::new(|| as_part("unlucky"), PATIENCE);
    let door = || lock(&reader.door).doorkeeper.as_ref().map(Doorkeeper::pid);
    let mut first = None;
    for _ in 0..3 {
        let file = file(b" ");
        assert!(reader.header(&file, id(&file)).is_ok());
        assert_eq!(*first.get_or_insert(door()), door(), "one door for all");
    }
}

/// In a process of its own, since no other test may start a program meanwhile.
#[test]
fn who_closes_a_file_and_waits_for_ever_keeps_nobody_waiting() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root mounts a file system");
        return;
    }
    let output = this_program("stuck").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn readers_are_stuck() {
    let reader = Reader::new(|| as_part("flawed"), PATIENCE);
    let fine = Ok(Header { backing: None });
    let read = |file: &File| reader.header(file, id(file)).map_err(|error| error.to_string());
    let door = || lock(&reader.door).doorkeeper.as_ref().map(Doorkeeper::pid);
    assert_eq!(read(&file(b" ")), fine);
    let first = door();
    let stuck = fuse::File::mount(this_program("file system"));
    for _ in 0..3 {
        assert_eq!(read(stuck.opened()), fine);
        assert_eq!(read(&file(b" ")), fine);
    }
    assert_eq!(door(), first);
    // There are so many readers, and whoever asks then is told so and does not wait.
    lock(&reader.door).unstuck = Some(Instant::now());
    let begun = Instant::now();
    let mut held = Vec::new();
    let error = loop {
        match reader.hand_in(Question::Header, stuck.opened()) {
            Ok(way) if held.len() < 20_000 => held.push(way),
            Ok(_) => panic!("they take any number"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("do not answer"), "{error}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(door(), first);
}

#[test]
fn a_doorkeeper_that_is_killed_is_replaced() {
    let reader = Reader::new(Doorkeeper::of_this_program, PATIENCE);
    let contents = [7; 100];
    for _ in 0..3 {
        let (mut told, file) = (0, file(&contents));
        let answer = reader.ask(Question::Whole, &file, &mut |_| {
            told += 1;
            Ok(())
        });
        let Ok(Answer::Whole((_, 100))) = answer else { panic!("{answer:?}") };
        let held = lock(&reader.door);
        let held = held.doorkeeper.as_ref();
        let pid = i32::try_from(held.unwrap().pid()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        // Its end of the way is closed once it is gone.
        while held.unwrap().is_there() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn who_does_not_want_it_any_more_need_not_wait() {
    let reader = Reader::new(|| as_part("flawed"), SOON);
    let answer = reader.ask(Question::Whole, &file(b"c"), &mut |_| Err(ReadError::GivenUp));
    assert!(matches!(answer, Err(ReadError::GivenUp)), "{answer:?}");
    // And the worker goes, though it is lost in what it read.
    let door = lock(&reader.door).doorkeeper.as_ref().map(Doorkeeper::pid).unwrap();
    let tasks = format!("/proc/{door}/task");
    let children = || -> usize {
        let tasks = std::fs::read_dir(&tasks).unwrap().filter_map(Result::ok);
        let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
        tasks.filter_map(|task| of(task).ok()).map(|text| text.split_whitespace().count()).sum()
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    // One waits for the next file.
    while children() > 1 {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::yield_now();
    }
}

static STARTED: AtomicU32 = AtomicU32::new(0);

/// The same bytes are not read twice, and others are.
#[test]
fn a_header_is_read_once_while_it_stays_the_same() {
    use std::os::unix::fs::FileExt;
    let reader = Reader::new(
        || {
            STARTED.fetch_add(1, Ordering::Relaxed);
            Doorkeeper::of_this_program()
        },
        PATIENCE,
    );
    let mut bytes = vec![0; 65536];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &MAGIC);
    put(4, &3u32.to_be_bytes());
    put(8, &512u64.to_be_bytes());
    put(16, &8u32.to_be_bytes());
    put(20, &16u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    put(512, b"base.img");
    let file = file(&bytes);
    let name = |reader: &Reader| reader.header(&file, id(&file)).unwrap().backing.unwrap().name;
    assert_eq!(name(&reader), "base.img");
    // Nobody is there to read it again, and what lies behind the header does not matter.
    lock(&reader.door).doorkeeper = None;
    file.write_all_at(b"data", 60_000).unwrap();
    assert_eq!(name(&reader), "base.img");
    assert_eq!(STARTED.load(Ordering::Relaxed), 1);
    file.write_all_at(b"evil", 512).unwrap();
    assert_eq!(name(&reader), "evil.img");
    assert_eq!(STARTED.load(Ordering::Relaxed), 2);
}
