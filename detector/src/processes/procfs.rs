//! Bounded reads of `/proc` (proc(5)). Every text in it is chosen by whoever runs the process, and the
//! process may end while it is being read.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use detector_core::model::{ProcessId, Timestamp};

use crate::clock;

/// Bytes of a process's arguments that are read. Those of a large VM are some kilobytes.
const COMMAND: u64 = 64 << 10;
/// Characters of them that are kept.
const COMMAND_KEPT: usize = 1024;
/// Bytes of any other text.
const TEXT: u64 = 16 << 10;
/// Bytes of the list of what is mapped into a process.
const MAPS: u64 = 4 << 20;
/// `PF_KTHREAD` (`linux/sched.h`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Where the host's processes are.
#[derive(Clone, Debug)]
pub(super) struct ProcFs {
    root: PathBuf,
    /// How many ticks a second the kernel counts.
    ticks: u64,
}

/// The first lines of what there is to say about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) id: ProcessId,
    /// Part of the kernel, which has no program.
    pub(super) kernel: bool,
    pub(super) threads: u64,
    /// The process that it descends from.
    pub(super) parent: u32,
    /// Its first letter of proc_pid_stat(5), such as `T`.
    pub(super) state: u8,
    /// How much processor time all of its threads have had, in clock ticks.
    pub(super) ran: u64,
}

impl Stat {
    /// Whether a signal keeps it from running on.
    pub(super) const fn is_stopped(&self) -> bool {
        self.state == b'T'
    }

    /// Whether it runs nothing of its own: a signal, a tracer, or the wait for a device keeps it from that.
    pub(super) const fn is_at_rest(&self) -> bool {
        matches!(self.state, b'T' | b't' | b'D')
    }
}

impl ProcFs {
    pub(super) fn open() -> Self {
        // SAFETY: sysconf has no preconditions.
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        let ticks = u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100);
        Self { root: PathBuf::from("/proc"), ticks }
    }

    /// Every process, by its number.
    pub(super) fn pids(&self) -> io::Result<Vec<u32>> {
        numbers(&self.root)
    }

    pub(super) fn place(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }

    pub(super) fn stat(&self, pid: u32) -> Option<Stat> {
        stat(pid, &bounded(&self.place(pid).join("stat"), TEXT).ok()?)
    }

    /// When it began, by the time that only grows: the kernel counts from its own start, with the time
    /// that the host has slept, and the time of day has no part in it.
    pub(super) fn started(&self, id: ProcessId) -> Timestamp {
        clock::at_uptime(id.started.saturating_mul(1000) / self.ticks)
    }

    /// The real user id.
    pub(super) fn uid(&self, pid: u32) -> Option<u32> {
        let text = bounded(&self.place(pid).join("status"), TEXT).ok()?;
        let line = text.split(|byte| *byte == b'\n').find_map(|l| l.strip_prefix(b"Uid:"))?;
        str::from_utf8(line).ok()?.split_whitespace().next()?.parse().ok()
    }

    /// The number of a namespace that it is in.
    pub(super) fn namespace(&self, pid: &str, kind: &str) -> Option<u64> {
        let link = fs::read_link(self.root.join(pid).join("ns").join(kind)).ok()?;
        let text = link.to_str()?;
        text.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
    }

    pub(super) fn cgroup(&self, pid: u32) -> String {
        let text = bounded(&self.place(pid).join("cgroup"), TEXT).unwrap_or_default();
        let mut lines = text.split(|byte| *byte == b'\n');
        let line = lines.clone().find_map(|l| l.strip_prefix(b"0::"));
        let line = line.or_else(|| lines.next()).unwrap_or_default();
        lossy(line)
    }
}

/// The arguments of a process. May stall.
pub(super) fn arguments(place: &Path) -> Vec<String> {
    let text = bounded(&place.join("cmdline"), COMMAND).unwrap_or_default();
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Arguments as a line.
pub(super) fn command(arguments: &[String]) -> String {
    let line = arguments.join(" ");
    match line.char_indices().nth(COMMAND_KEPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What is mapped into a process as code, and has a file: the name of its link in `map_files`. May
/// stall.
pub(super) fn mapped(place: &Path) -> Vec<PathBuf> {
    let text = bounded(&place.join("maps"), MAPS).unwrap_or_default();
    let mut files: Vec<(Vec<u8>, PathBuf)> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let mut next = || fields.next().unwrap_or_default();
        let (range, rights, _, device, inode) = (next(), next(), next(), next(), next());
        if rights.get(2) != Some(&b'x') || inode == b"0" || inode.is_empty() {
            continue;
        }
        let identity = [device, b" ", inode].concat();
        if files.iter().all(|(known, _)| *known != identity) {
            files.push((identity, place.join("map_files").join(OsStr::from_bytes(range))));
        }
    }
    files.into_iter().map(|(_, link)| link).collect()
}

/// The numbers that entries of a directory are named by, in ascending order.
pub(super) fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(directory)?;
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A text of at most so many bytes, the rest left out.
pub(super) fn bounded(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    const LONGEST: usize = 1024;
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// What the kernel knows of a file without asking who serves it: a descriptor of a file system in user
/// space must not stall the scan.
pub(super) fn known_of(path: &Path) -> Option<libc::statx> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zero is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_STATX_DONT_SYNC;
    let mask = libc::STATX_BASIC_STATS;
    // SAFETY: the path is terminated, and `found` is written to during the call only.
    let code = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, mask, &mut found) };
    (code == 0).then_some(found)
}

/// The name of the process, in brackets, may hold anything, brackets too.
fn stat(pid: u32, text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = str::from_utf8(text.get(end + 1..)?).ok()?;
    let field = |number: usize| rest.split_whitespace().nth(number - 3);
    let flags: u64 = field(9)?.parse().ok()?;
    let ticks = |number| field(number)?.parse::<u64>().ok();
    Some(Stat {
        id: ProcessId { pid, started: field(22)?.parse().ok()? },
        kernel: flags & KERNEL_THREAD != 0,
        threads: field(20)?.parse().ok()?,
        parent: field(4)?.parse().ok()?,
        state: *field(3)?.as_bytes().first()?,
        ran: ticks(14)?.saturating_add(ticks(15)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_and_any_damage() {
        let tail = "S 1 1 1 0 -1 4194560 5 5 5 5 5 5 5 5 20 0 7 0 4711 1 1";
        for name in ["sh", "a) R 1 (b", ")", "", "a\nb"] {
            let text = format!("9 ({name}) {tail}");
            let id = ProcessId { pid: 9, started: 4711 };
            let expect = Stat { id, kernel: false, threads: 7, parent: 1, state: b'S', ran: 5 + 5 };
            assert_eq!(stat(9, text.as_bytes()), Some(expect), "{name:?}");
            for cut in 0..text.len() - " 4711 1 1".len() {
                assert_eq!(stat(9, &text.as_bytes()[..cut]), None, "{cut}");
            }
        }
    }

    #[test]
    fn this_process() {
        let proc = ProcFs::open();
        let own = std::process::id();
        assert!(proc.pids().unwrap().contains(&own));
        let stat = proc.stat(own).unwrap();
        assert!(!stat.kernel && stat.threads >= 1);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let begun = proc.started(proc.stat(child.id()).unwrap().id);
        child.kill().unwrap();
        child.wait().unwrap();
        let age = clock::now().0.abs_diff(begun.0);
        assert!(age < 10_000, "{age}");
        assert_eq!(proc.uid(own), Some(nix::unistd::getuid().as_raw()));
        assert_eq!(arguments(&proc.place(own))[0], std::env::args().next().unwrap());
        assert!(proc.namespace("self", "net").is_some());
        assert!(!mapped(&proc.place(own)).is_empty());
        assert_eq!(proc.stat(u32::MAX), None);
    }
}
