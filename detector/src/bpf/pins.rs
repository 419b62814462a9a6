//! Where maps and links are pinned, and who may change them.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aya::maps::MapInfo;
use detector_common::maps::{self, SCHEMA_VERSION};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::BpfError;

/// How long the enforcer's process of a daemon that has just been killed may take to let go.
const LETTING_GO: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(10);

/// A place on an interface where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Ingress,
    Egress,
}

impl Hook {
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// The layout of a pin directory: `<root>/<schema version>/{maps,links}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinPaths {
    root: PathBuf,
    version: PathBuf,
}

impl PinPaths {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), version: root.join(SCHEMA_VERSION.to_string()) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of this schema version.
    pub fn version(&self) -> &Path {
        &self.version
    }

    pub fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub fn links(&self) -> PathBuf {
        self.version.join("links")
    }

    pub fn link(&self, ifindex: u32, hook: Hook) -> PathBuf {
        self.links().join(Self::link_name(ifindex, hook))
    }

    pub(super) fn link_name(ifindex: u32, hook: Hook) -> String {
        format!("{ifindex}-{}", hook.as_str())
    }

    /// The name under which a link is pinned before it takes [`Self::link`]. A BPF file system allows
    /// no dots.
    pub(super) fn new_link(&self, ifindex: u32, hook: Hook) -> PathBuf {
        self.links().join(format!("{ifindex}-{}-new", hook.as_str()))
    }

    pub(super) fn new_map(&self, name: &str) -> PathBuf {
        self.maps().join(format!("{name}-new"))
    }

    pub fn shield(&self, ifindex: u32) -> PathBuf {
        self.links().join(format!("{ifindex}-shield"))
    }

    /// # Errors
    ///
    /// When nothing is pinned, or nobody but root may see whether there is.
    pub(super) fn expect_maps(&self) -> Result<(), BpfError> {
        match fs::metadata(self.maps()) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BpfError::Nothing(self.root.clone()))
            }
            Err(error) => {
                Err(BpfError::failed(format!("look into {}", self.root.display()))(error))
            }
        }
    }

    /// The id of the pinned map of quarantines.
    pub(super) fn quarantine_map(&self) -> Result<u32, BpfError> {
        let path = self.map(maps::QUARANTINE);
        MapInfo::from_pin(&path)
            .map(|info| info.id())
            .map_err(BpfError::failed(format!("look at the pinned map {}", path.display())))
    }

    /// The interfaces that links are pinned for, whether they live or not.
    pub(super) fn linked(&self) -> Result<Vec<u32>, BpfError> {
        let list = || -> io::Result<Vec<u32>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(self.links())? {
                let name = entry?.file_name();
                let ifindex = name.to_str().and_then(|n| n.split_once('-')?.0.parse::<u32>().ok());
                found.extend(ifindex);
            }
            found.sort_unstable();
            found.dedup();
            Ok(found)
        };
        list().map_err(BpfError::failed(format!("list {}", self.links().display())))
    }
}

/// A pin directory that nobody else may change while this value lives. What mutates the pins asks
/// for one.
#[derive(Debug)]
pub struct Pins {
    paths: PinPaths,
    lock: Flock<File>,
}

impl Pins {
    /// Makes the directory where there is none, and claims it. Lets the pins of other schema versions be.
    ///
    /// # Errors
    ///
    /// When it is not on a BPF file system, or when another process holds it.
    pub fn claim(root: &Path) -> Result<Self, BpfError> {
        on_bpffs(root)?;
        make(root)?;
        let pins = Self::claim_any(root)?;
        pins.make_directories()?;
        Ok(pins)
    }

    /// Claims a directory that exists.
    ///
    /// # Errors
    ///
    /// As [`Self::claim`], when nothing is pinned there, and when pins of another schema version are: what is
    /// written to ours would not hold. Nothing that is pinned has been touched then.
    pub fn claim_existing(root: &Path) -> Result<Self, BpfError> {
        PinPaths::new(root).expect_maps()?;
        on_bpffs(root)?;
        let pins = Self::claim_any(root)?;
        refuse_other_versions(pins.paths())?;
        pins.make_directories()?;
        Ok(pins)
    }

    /// Claims a directory whatever is pinned in it, for whoever takes all of it away.
    ///
    /// # Errors
    ///
    /// When another process holds it.
    pub(super) fn claim_any(root: &Path) -> Result<Self, BpfError> {
        on_bpffs(root)?;
        let deadline = Instant::now() + LETTING_GO;
        let lock = loop {
            match claim(root) {
                Err(BpfError::Locked { .. }) if Instant::now() < deadline => pause(),
                other => break other?,
            }
        };
        Ok(Self { paths: PinPaths::new(root), lock })
    }

    /// The pins of somebody else, for a test that stands in for one who minds no lock.
    #[cfg(test)]
    pub(super) fn unlocked(root: &Path) -> Self {
        let lock = Flock::lock(File::open("/dev/null").unwrap(), FlockArg::LockShared).unwrap();
        Self { paths: PinPaths::new(root), lock }
    }

    pub fn paths(&self) -> &PinPaths {
        &self.paths
    }

    /// Makes the directories anew where somebody has removed them, and claims the new one. Returns
    /// whether one was missing.
    pub(super) fn restore_directories(&mut self) -> Result<bool, BpfError> {
        let paths = &self.paths;
        let all = [paths.version(), &paths.maps(), &paths.links()];
        let missing = all.iter().any(|directory| !directory.is_dir());
        if self.is_ours() && !missing {
            return Ok(false);
        }
        if !self.is_ours() {
            make(self.paths.root())?;
            self.lock = claim(self.paths.root())?;
        }
        self.make_directories()?;
        Ok(true)
    }

    /// Whether the directory of that name is the one that is locked.
    fn is_ours(&self) -> bool {
        let place = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
        let locked = place(self.lock.metadata());
        locked.is_some() && place(fs::metadata(self.paths.root())) == locked
    }

    fn make_directories(&self) -> Result<(), BpfError> {
        let paths = &self.paths;
        [paths.version(), &paths.maps(), &paths.links()].into_iter().try_for_each(make)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nobody tells of a lock that is given back; there is a deadline"
)]
fn pause() {
    thread::sleep(AGAIN);
}

/// Locks the directory for as long as the value lives.
fn claim(root: &Path) -> Result<Flock<File>, BpfError> {
    match Flock::lock(open(root)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => {
            let holder = holder(root).map_or_else(|| "another".into(), |pid| pid.to_string());
            Err(BpfError::Locked { root: root.to_owned(), holder })
        }
        Err((_, errno)) => Err(BpfError::failed(format!("lock {}", root.display()))(errno)),
    }
}

/// The process that holds the pins, when one does. The lock is a flock(2) on the directory, which
/// ends with its holder; the kernel says who that is.
pub fn holder(root: &Path) -> Option<u32> {
    let meta = fs::metadata(root).ok()?;
    let (major, minor) = (libc::major(meta.dev()), libc::minor(meta.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    find_holder(&fs::read_to_string("/proc/locks").ok()?, &place)
}

/// Lines read `1: FLOCK ADVISORY WRITE 4242 00:27:1234 0 EOF`; one that waits has `->` second.
fn find_holder(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, "WRITE", pid, at, ..] if at == place => pid.parse().ok(),
            _ => None,
        }
    })
}

/// The nearest directory that exists decides, for the rest is made in it.
fn on_bpffs(root: &Path) -> Result<(), BpfError> {
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = statfs(existing)
        .map_err(BpfError::failed(format!("look at the file system of {}", existing.display())))?;
    if found.filesystem_type() == BPF_FS_MAGIC {
        Ok(())
    } else {
        Err(BpfError::NotBpffs(root.to_owned()))
    }
}

/// Makes a directory that is ours alone.
fn make(path: &Path) -> Result<(), BpfError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .map_err(BpfError::failed(format!("make the directory {}", path.display())))
}

fn open(path: &Path) -> Result<File, BpfError> {
    File::open(path).map_err(BpfError::failed(format!("open {}", path.display())))
}

pub(super) fn refuse_other_versions(paths: &PinPaths) -> Result<(), BpfError> {
    let read = fs::read_dir(paths.root())
        .map_err(BpfError::failed(format!("list {}", paths.root().display())))?;
    for entry in read.filter_map(Result::ok) {
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.parse::<u32>().ok());
        if version.is_some_and(|version| version != SCHEMA_VERSION) {
            let found = entry.path().display().to_string();
            return Err(BpfError::OtherSchema { found, ours: SCHEMA_VERSION });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::enforcer::testing::PinRoot;

    #[test]
    fn the_kernel_names_the_holder() {
        let locks = "1: FLOCK  ADVISORY  WRITE 12495 00:27:23915 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 77 00:27:23916 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 78 00:27:23916 0 EOF\n\
                     3: POSIX  ADVISORY  WRITE 79 00:27:23917 0 EOF\n";
        let cases = [
            ("00:27:23915", Some(12495)),
            ("00:27:23916", None),
            ("00:27:23917", None),
            ("00:27:2391", None),
        ];
        for (place, pid) in cases {
            assert_eq!(find_holder(locks, place), pid, "{place}");
        }
    }

    #[test]
    fn a_second_one_is_refused_and_told_by_whom() {
        let root = PinRoot::new();
        let first = Pins::claim(root.path()).unwrap();
        assert_eq!(holder(root.path()), Some(std::process::id()));
        let error = Pins::claim(root.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        let mode = fs::metadata(root.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(first);
        assert_eq!(holder(root.path()), None);
        Pins::claim(root.path()).unwrap();
    }

    #[test]
    fn another_schema_version_is_refused_untouched() {
        let root = PinRoot::new();
        let other = root.path().join("4000000000");
        DirBuilder::new().recursive(true).create(&other).unwrap();
        drop(Pins::claim(root.path()).unwrap());
        let error = Pins::claim_existing(root.path()).unwrap_err().to_string();
        assert!(error.contains(&*other.to_string_lossy()), "{error}");
        assert!(other.exists());
    }

    #[test]
    fn only_a_bpf_file_system_will_do() {
        let elsewhere = tempfile::tempdir().unwrap();
        let error = Pins::claim(&elsewhere.path().join("pins")).unwrap_err().to_string();
        assert!(error.contains("mount -t bpf"), "{error}");
        let error = Pins::claim_existing(elsewhere.path()).unwrap_err().to_string();
        assert!(error.contains("nothing is pinned"), "{error}");
    }
}
