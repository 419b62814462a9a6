//! A file in a file system that answers everything but who closes it (`linux/fuse.h`).

use std::{
    ffi::CString,
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd},
    process::{Child, Command},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Of requests.
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
/// What stands before a request.
const HEAD: usize = 40;
/// Seconds after which whoever waits is let go, whatever has become of the test.
const LONGEST: u32 = 60;
const CONTENTS: &[u8] = b"  ";

/// It is there as long as this value. Whoever holds it open may start no program: that closes files.
pub(super) struct File {
    server: Child,
    /// Closed last, when nobody waits any more.
    opened: fs::File,
    _place: tempfile::NamedTempFile,
}

impl File {
    /// In a mount namespace of this thread's own; the program runs [`serve`].
    pub(super) fn mount(mut program: Command) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let place = tempfile::NamedTempFile::new().unwrap();
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=100644,user_id=0,group_id=0", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        mount(Some("fuse"), place.path(), Some("fuse"), MsFlags::empty(), Some(options.as_c_str()))
            .unwrap();
        let server = program.stdin(device).spawn().unwrap();
        // Of the device only the server has a descriptor: where it ends, nobody waits any more.
        drop(program);
        let opened = fs::File::open(place.path()).unwrap();
        Self { server, opened, _place: place }
    }

    pub(super) fn opened(&self) -> &fs::File {
        &self.opened
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// Answers on the standard input.
pub(super) fn serve() {
    // SAFETY: the call takes a number only.
    unsafe { libc::alarm(LONGEST) };
    let mut device = fs::File::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut request = vec![0; 1 << 17];
    loop {
        let Ok(length) = device.read(&mut request) else { return };
        let request = &request[..length];
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let answer = match word(4) {
            INIT => words(&[7, 31, 0, 0, 0, 1 << 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            GETATTR => {
                let mut answer = vec![0; 16];
                // Number, size, blocks; times; mode, links, owner.
                answer.extend(longs(&[1, CONTENTS.len() as u64, 1, 0, 0, 0]));
                answer.extend(words(&[0, 0, 0, libc::S_IFREG | 0o644, 1, 0, 0, 0, 4096, 0]));
                answer
            }
            OPEN => vec![0; 16],
            READ => CONTENTS.get(word(HEAD + 8) as usize..).unwrap_or_default().to_vec(),
            RELEASE => Vec::new(),
            // Whoever closes it waits for ever.
            FLUSH => continue,
            _ => {
                reply(&mut device, request, -libc::ENOSYS, &[]);
                continue;
            }
        };
        reply(&mut device, request, 0, &answer);
    }
}

fn reply(device: &mut fs::File, request: &[u8], error: i32, answer: &[u8]) {
    let length = u32::try_from(16 + answer.len()).unwrap();
    let mut all = [length.to_ne_bytes(), error.to_ne_bytes()].concat();
    all.extend(&request[8..16]);
    all.extend(answer);
    // What was given up meanwhile wants no answer.
    let _ = device.write(&all);
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
