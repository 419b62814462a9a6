//! Virtual machine monitors, known by the names and by the contents of their files.
//!
//! A file that has been renamed keeps what is in it: QEMU has the names of its monitor's commands and
//! of its devices, without which it would be of no use to those who drive it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::fd::AsRawFd,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aho_corasick::{AhoCorasick, MatchKind};
use detector_core::model::{Program, Recognised};

/// Bytes of a file that are looked at.
const MOST: u64 = 256 << 20;
const CHUNK: usize = 1 << 20;
/// Programs that are remembered.
const REMEMBERED: usize = 16_384;
/// File systems whose inodes change when a file does, whoever serves them: ext2 to 4, XFS, Btrfs,
/// tmpfs, ZFS, SquashFS, EROFS, F2FS (`linux/magic.h`).
const HONEST: [i64; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x2fc1_2fc1,
    0x7371_7368,
    0xe0f5_e1e2,
    0xf2f5_2010,
];

/// Names of files, `*` at the end for any ending, and what they are.
const NAMES: [(&str, &str); 16] = [
    ("qemu-system-*", "QEMU"),
    ("qemu-kvm", "QEMU"),
    ("kvm", "QEMU"),
    ("firecracker*", "Firecracker"),
    ("cloud-hypervisor*", "Cloud Hypervisor"),
    ("VBoxHeadless", "VirtualBox"),
    ("VirtualBoxVM", "VirtualBox"),
    ("VBoxSDL", "VirtualBox"),
    ("vmware-vmx*", "VMware"),
    ("crosvm", "crosvm"),
    ("lkvm", "kvmtool"),
    ("kvmtool", "kvmtool"),
    ("stratovirt", "StratoVirt"),
    ("bochs*", "Bochs"),
    ("linux.uml", "User-mode Linux"),
    ("bhyve", "bhyve"),
];

/// Texts in a file, and of how many of them there have to be some for it to be that program. Written
/// backwards, so that this program itself does not hold them.
const CONTENTS: [(&str, usize, &[&str]); 6] = [
    (
        "QEMU",
        2,
        &[
            "noisrev rotalume UMEQ",
            // Commands of its monitor, by which it is driven, and one of its devices.
            "supc-elbaggulptoh-yreuq",
            "dnammoc-rotinom-namuh",
            "lanoitisnart-icp-ten-oitriv",
        ],
    ),
    ("Bochs", 1, &["rotalumE 68x shcoB"]),
    // What it says of the tracing of system calls as it starts.
    ("User-mode Linux", 1, &["srebmun llac metsys egnahc nac ecartp taht gnikcehC"]),
    // The library of its virtual machines.
    ("VirtualBox", 1, &["os.MMVxoBV"]),
    // The path of its source, in its messages.
    ("Firecracker", 1, &["sr.niam/crs/rekcarcerif/crs"]),
    // What its help begins with.
    ("Cloud Hypervisor", 1, &[".MMV rosivrepyh-duolc a hcnuaL"]),
];

fn forwards(text: &str) -> String {
    text.chars().rev().collect()
}

/// What tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    device: (u32, u32),
    inode: u64,
    size: u64,
    changed: (i64, u32),
    modified: (i64, u32),
}

impl From<&libc::statx> for FileId {
    fn from(stat: &libc::statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            size: stat.stx_size,
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        }
    }
}

/// What programs are, as far as they have been looked into.
#[derive(Debug)]
pub(super) struct Programs {
    texts: AhoCorasick,
    /// Of each text, the program of [`CONTENTS`] that it belongs to.
    owners: Vec<usize>,
    known: Mutex<BTreeMap<FileId, Option<&'static str>>>,
}

impl Programs {
    pub(super) fn new() -> Result<Self, aho_corasick::BuildError> {
        let mut owners = Vec::new();
        let mut texts = Vec::new();
        for (program, (_, _, parts)) in CONTENTS.iter().enumerate() {
            for text in *parts {
                owners.push(program);
                texts.push(forwards(text));
            }
        }
        let texts = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&texts)?;
        Ok(Self { texts, owners, known: Mutex::default() })
    }

    /// What the file is by its content. May stall.
    pub(super) fn by_content(&self, path: &Path) -> io::Result<Option<&'static str>> {
        let mut file = File::open(path)?;
        let id = super::procfs::known_of(path).as_ref().map(FileId::from);
        let id = id.filter(|_| is_honest(&file));
        if let Some(known) = id.and_then(|id| self.known().get(&id).copied()) {
            return Ok(known);
        }
        let found = self.search(&mut file)?;
        if let Some(id) = id {
            let mut known = self.known();
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(id, found);
        }
        Ok(found)
    }

    /// Not held while a file is read, which may take its time.
    fn known(&self) -> MutexGuard<'_, BTreeMap<FileId, Option<&'static str>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn search(&self, from: &mut impl Read) -> io::Result<Option<&'static str>> {
        let overlap = self.texts.max_pattern_len();
        let mut buffer = vec![0; CHUNK + overlap];
        let mut seen = vec![false; self.owners.len()];
        let mut kept = 0;
        let mut left = MOST;
        loop {
            let length = match from.read(&mut buffer[kept..]) {
                Ok(0) => return Ok(None),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for hit in self.texts.find_overlapping_iter(&buffer[..kept + length]) {
                seen[hit.pattern().as_usize()] = true;
            }
            if let Some(found) = self.told_by(&seen) {
                return Ok(Some(found));
            }
            left = left.saturating_sub(length as u64);
            if left == 0 {
                return Ok(None);
            }
            let end = kept + length;
            let start = end.saturating_sub(overlap);
            buffer.copy_within(start..end, 0);
            kept = end - start;
        }
    }

    fn told_by(&self, seen: &[bool]) -> Option<&'static str> {
        CONTENTS.iter().enumerate().find_map(|(program, (name, least, _))| {
            let hits = self.owners.iter().zip(seen).filter(|(o, seen)| **o == program && **seen);
            (hits.count() >= *least).then_some(*name)
        })
    }
}

/// What a file is by its name.
pub(super) fn by_name(path: &Path) -> Option<Program> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    let found = NAMES.iter().find(|(pattern, _)| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    })?;
    Some(Program { name: found.1.to_owned(), by: Recognised::Name })
}

/// Whether a file that is mapped as code can be run as a program: one that a loader has been started
/// with is not the program of its process. Libraries have no interpreter (`PT_INTERP` of elf(5)).
pub(super) fn is_program(path: &Path) -> bool {
    const HEADER: u64 = 4096;
    let Ok(head) = super::procfs::bounded(path, HEADER) else { return false };
    let at = |place: usize, bytes: usize| -> Option<u64> {
        let field = head.get(place..place.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let is_64 = head.starts_with(b"\x7fELF\x02\x01");
    if !is_64 && !head.starts_with(b"\x7fELF\x01\x01") {
        return false;
    }
    let (table, size, count) = if is_64 { (32, 54, 56) } else { (28, 42, 44) };
    let table = at(table, if is_64 { 8 } else { 4 });
    let (Some(table), Some(size), Some(count)) = (table, at(size, 2), at(count, 2)) else {
        return false;
    };
    let kind = |number: u64| {
        let place = table.checked_add(number.checked_mul(size)?)?;
        at(usize::try_from(place).ok()?, 4)
    };
    (0..count.min(64)).any(|number| kind(number) == Some(u64::from(libc::PT_INTERP)))
}

fn is_honest(file: &File) -> bool {
    // SAFETY: all zero is a valid statfs.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and `found` is written to during the call only.
    let code = unsafe { libc::fstatfs(file.as_raw_fd(), &mut found) };
    code == 0 && HONEST.contains(&(found.f_type as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases = [
            ("/usr/bin/qemu-system-x86_64", Some("QEMU")),
            ("/x/qemu-system-x86_64 (deleted)", Some("QEMU")),
            ("/usr/bin/qemu-img", None),
            ("/usr/bin/qemu-x86_64", None),
            ("/opt/firecracker-v1.7.0-x86_64", Some("Firecracker")),
            ("/usr/local/bin/cloud-hypervisor-static", Some("Cloud Hypervisor")),
            ("/usr/bin/ch-remote", None),
            ("/usr/lib/virtualbox/VBoxHeadless", Some("VirtualBox")),
            ("/usr/lib/virtualbox/VBoxSVC", None),
            ("/usr/sbin/nginx", None),
            ("/", None),
        ];
        for (path, expect) in cases {
            let found = by_name(Path::new(path)).map(|program| program.name);
            assert_eq!(found.as_deref(), expect, "{path}");
        }
    }

    /// The texts are found wherever in a file they are, and a single one of several does not do.
    #[test]
    fn contents() {
        let programs = Programs::new().unwrap();
        let qemu = CONTENTS[0].2;
        for gap in [0, 1, CHUNK - 30, CHUNK - 10, CHUNK, 3 * CHUNK - 5] {
            let mut file = vec![7; gap];
            file.extend(forwards(qemu[0]).bytes());
            assert_eq!(programs.search(&mut &file[..]).unwrap(), None, "{gap}");
            file.resize(2 * gap + 100, 9);
            file.extend(forwards(qemu[2]).bytes());
            assert_eq!(programs.search(&mut &file[..]).unwrap(), Some("QEMU"), "{gap}");
        }
    }

    #[test]
    fn each_program_is_known_by_its_own_texts() {
        let programs = Programs::new().unwrap();
        for (name, least, texts) in CONTENTS {
            let file = texts[..least].iter().map(|text| forwards(text)).collect::<Vec<_>>();
            let file = file.join("\0");
            assert_eq!(programs.search(&mut file.as_bytes()).unwrap(), Some(name));
        }
        let other = "Remotely control a cloud-hypervisor VMM.";
        assert_eq!(programs.search(&mut other.as_bytes()).unwrap(), None, "its remote control");
    }

    #[test]
    fn this_program_is_none() {
        let programs = Programs::new().unwrap();
        let own = std::env::current_exe().unwrap();
        assert_eq!(programs.by_content(&own).unwrap(), None);
        assert!(is_program(&own));
        assert_eq!(programs.known().len(), 1);
        for other in ["/etc/passwd", "/dev/null", "/nonexistent"] {
            assert!(!is_program(Path::new(other)), "{other}");
        }
    }
}
