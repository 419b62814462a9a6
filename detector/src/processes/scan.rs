//! One look at every process of the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use detector_core::model::{
    Attachment, Holds, ProcessId, Program, Recognised, Says, Timestamp, VmProcess,
};

use super::{
    arguments,
    holds::{self, Devices, Table},
    patience::{Patience, Stalled},
    procfs::{self, ProcFs, Stat},
    program::{self, FileId, Programs},
    records::Records,
};

/// How long what is read of a process as a whole stays good: it may load a program later on, and
/// write over its arguments.
const REFRESH: Duration = Duration::from_secs(60);
/// How soon what could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Processes of one user that are remembered, of those that are VMs and of those that may be; those on
/// record do not count.
const OF_ONE_USER: usize = 1024;
/// Descriptors of one user's processes that one scan looks at.
const DESCRIPTORS: usize = 262_144;

/// What the scan is told by the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) grace: Duration,
    /// Directories of managers' records.
    pub(super) records: Vec<PathBuf>,
    /// Programs that hold taps or devices and are no VMs.
    pub(super) ignored: Vec<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Scanner {
    proc: ProcFs,
    rules: Rules,
    programs: Arc<Programs>,
    patience: Patience,
    records: Records,
    details: BTreeMap<ProcessId, Details>,
    found: BTreeMap<ProcessId, VmProcess>,
}

/// What is read of a process now and then.
#[derive(Clone, Debug)]
struct Details {
    file: Option<FileId>,
    read: Instant,
    user: Option<String>,
    command: String,
    program: Option<Program>,
    attachments: Vec<Attachment>,
    says: Says,
    obscure: Option<String>,
}

/// What a scan begins with.
struct Scene {
    now: Timestamp,
    devices: Devices,
    ignored: BTreeSet<FileId>,
    network: u64,
    /// Descriptors looked at, by user.
    descriptors: BTreeMap<u32, usize>,
}

impl Scanner {
    pub(super) fn new(rules: Rules) -> io::Result<Self> {
        let programs = Programs::new().map_err(io::Error::other)?;
        Ok(Self {
            proc: ProcFs::open(),
            records: Records::new(rules.records.clone()),
            rules,
            programs: Arc::new(programs),
            patience: Patience::default(),
            details: BTreeMap::new(),
            found: BTreeMap::new(),
        })
    }

    /// Looks at every process. An error is a scan that says nothing.
    pub(super) fn all(&mut self, now: Timestamp) -> io::Result<()> {
        let mut scene = self.scene(now)?;
        let pids = self.proc.pids()?;
        let own = std::process::id();
        if !pids.contains(&own) {
            return Err(io::Error::other(
                "/proc does not show this process: expected the proc file system of its own \
                 process namespace, without hidepid",
            ));
        }
        let mut found = BTreeMap::new();
        let mut alive = BTreeSet::new();
        let mut of_user: BTreeMap<(u32, bool), usize> = BTreeMap::new();
        for pid in pids {
            let Some(stat) = self.proc.stat(pid).filter(|stat| !stat.kernel) else { continue };
            alive.insert(stat.id);
            if pid == own {
                continue;
            }
            let Some(process) = self.look(stat, &mut scene) else { continue };
            let count = of_user.entry((process.uid, process.is_vm())).or_default();
            if process.recorded.is_none() {
                *count += 1;
                if *count > OF_ONE_USER {
                    continue;
                }
            }
            found.insert(process.id, process);
        }
        self.details.retain(|id, _| alive.contains(id));
        self.found = found;
        Ok(())
    }

    /// Looks at these processes only, which have just begun to run another program.
    pub(super) fn some(&mut self, now: Timestamp, pids: &BTreeSet<u32>) -> io::Result<()> {
        let mut scene = self.scene(now)?;
        for pid in pids {
            // Since when it is known outlives what it runs: else it would only have to begin anew.
            let stat = self.proc.stat(*pid).filter(|stat| !stat.kernel);
            let process = stat.and_then(|stat| self.look(stat, &mut scene));
            self.found.retain(|id, _| id.pid != *pid);
            self.found.extend(process.map(|process| (process.id, process)));
        }
        Ok(())
    }

    /// The processes that are VMs or may be.
    pub(super) fn found(&self) -> &BTreeMap<ProcessId, VmProcess> {
        &self.found
    }

    fn scene(&mut self, now: Timestamp) -> io::Result<Scene> {
        self.records.look(now);
        let network = self.proc.namespace("self", "net").ok_or_else(|| {
            io::Error::other("/proc/self/ns/net cannot be read: expected a mounted /proc")
        })?;
        let ignored = self.rules.ignored.iter().filter_map(|path| procfs::known_of(path));
        Ok(Scene {
            now,
            devices: Devices::read(),
            ignored: ignored.map(|stat| FileId::from(&stat)).collect(),
            network,
            descriptors: BTreeMap::new(),
        })
    }

    /// One process; `None` when it is no VM and holds nothing of one, or has ended meanwhile.
    fn look(&mut self, stat: Stat, scene: &mut Scene) -> Option<VmProcess> {
        let id = stat.id;
        let place = self.proc.place(id.pid);
        let uid = self.proc.uid(id.pid)?;
        let tables = tables(&place, &stat);
        let mut obscure = None;
        let mut held = Holds::default();
        let used = scene.descriptors.entry(uid).or_default();
        for (place, pid) in &tables {
            let table = Table { place, pid: *pid, network: scene.network };
            let room = DESCRIPTORS.saturating_sub(*used);
            match holds::collect(&table, &scene.devices, room, &mut held) {
                Ok(count) => *used += count,
                Err(why) => obscure = Some(why.to_string()),
            }
        }
        // The first thread may have ended before the others.
        let runs = |place: &&Path| fs::read_link(place.join("exe")).is_ok();
        let speaker = tables.iter().map(|(place, _)| place.as_path()).find(runs);
        let speaker = speaker.unwrap_or(&place);
        let exe = speaker.join("exe");
        let path = fs::read_link(&exe);
        let file = procfs::known_of(&exe).as_ref().map(FileId::from);
        let details = self.details(id, uid, speaker, file, path.as_deref().ok());
        let Details { user, command, program, attachments, says, .. } = details.clone();
        let obscure = obscure.or_else(|| details.obscure.clone());

        let ignored = file.is_some_and(|file| scene.ignored.contains(&file));
        let vm = program.is_some() || held.vms > 0 || held.vcpus > 0;
        let part = obscure.is_some() || held != Holds::default();
        if !vm && (ignored || !part) {
            return None;
        }
        let began = self.proc.started(id);
        let recorded = self.records.name_of(id, began);
        let known = self.found.get(&id);
        let first = known.map_or(scene.now, |known| known.first);
        // What has lasted is not young again.
        let lasting = known.is_some_and(|known| known.lasting);
        let network = self.proc.namespace(&id.pid.to_string(), "net").unwrap_or(0);
        Some(VmProcess {
            id,
            started: began,
            first,
            lasting: lasting || scene.now.since(first) >= self.rules.grace,
            uid,
            user,
            exe: path.map_or_else(
                |_| "unknown".to_owned(),
                |path| procfs::lossy(path.as_os_str().as_bytes()),
            ),
            command,
            attachments: if vm { attachments } else { Vec::new() },
            program,
            obscure,
            holds: held,
            says,
            network,
            network_is_hosts: network == scene.network,
            cgroup: self.proc.cgroup(id.pid),
            recorded,
        })
    }

    /// What the process is as a whole, read again when it runs another program, and now and then.
    fn details(
        &mut self,
        id: ProcessId,
        uid: u32,
        place: &Path,
        file: Option<FileId>,
        path: Option<&Path>,
    ) -> &Details {
        let known = self.details.get(&id).filter(|known| known.file == file);
        let fresh = known.is_some_and(|known| {
            let good = if known.obscure.is_none() { REFRESH } else { RETRY };
            known.read.elapsed() < good
        });
        if !fresh {
            let told = known.and_then(|known| known.program.clone());
            let by_name = path.and_then(program::by_name);
            let (programs, place) = (Arc::clone(&self.programs), place.to_owned());
            // A program that was looked into is not looked into again for the same process.
            let looked = known.is_some_and(|known| known.obscure.is_none());
            let read = self.patience.run(uid, move || read(&programs, &place, uid, looked, file));
            let details = match read {
                Ok(read) => Details {
                    file,
                    read: Instant::now(),
                    user: read.user,
                    command: procfs::command(&read.arguments),
                    attachments: match by_name.as_ref().or(read.program.as_ref()).or(told.as_ref())
                    {
                        Some(program) if program.name == "QEMU" => {
                            arguments::attachments(&read.arguments)
                        }
                        _ => Vec::new(),
                    },
                    says: arguments::says(&read.arguments),
                    program: by_name.or(read.program).or(told),
                    obscure: read.obscure,
                },
                Err(Stalled) => Details {
                    file,
                    read: Instant::now(),
                    user: None,
                    command: String::new(),
                    program: by_name.or(told),
                    attachments: Vec::new(),
                    says: Says::default(),
                    obscure: Some("to read its program or its memory takes too long".to_owned()),
                },
            };
            self.details.insert(id, details);
        }
        &self.details[&id]
    }
}

/// What may take its time to read.
struct Read {
    user: Option<String>,
    arguments: Vec<String>,
    program: Option<Program>,
    obscure: Option<String>,
}

fn read(programs: &Programs, place: &Path, uid: u32, looked: bool, file: Option<FileId>) -> Read {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    let arguments = procfs::arguments(place);
    let mut obscure = None;
    let mut found = None;
    if !looked {
        match programs.by_content(&place.join("exe")) {
            Ok(name) => found = name,
            Err(error) if is_gone(&error) => {}
            Err(error) => obscure = Some(format!("its program cannot be read: {error}")),
        }
    }
    // A loader can be started with a program: the loader is what runs then, and the program is mapped.
    let mut mapped = procfs::mapped(place).into_iter().filter(|link| {
        let other = procfs::known_of(link).as_ref().map(FileId::from) != file;
        found.is_none() && other && program::is_program(link)
    });
    let found = found.or_else(|| mapped.find_map(|link| programs.by_content(&link).ok().flatten()));
    let program = found.map(|name| Program { name: name.to_owned(), by: Recognised::Content });
    Read { user, arguments, program, obscure }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The tables of descriptors of a process: that of its first thread, and those of threads that have
/// one of their own, in which something may be held that the first does not show.
fn tables(place: &Path, stat: &Stat) -> Vec<(PathBuf, Option<u32>)> {
    /// Threads with tables of their own are few; who has more is looked at through these.
    const MOST: usize = 64;
    let pid = stat.id.pid;
    let mut tables = vec![(pid, place.to_owned())];
    if stat.threads > 1 {
        let threads = place.join("task");
        for tid in procfs::numbers(&threads).unwrap_or_default() {
            if tables.len() < MOST && tables.iter().all(|(known, _)| !share_table(*known, tid)) {
                tables.push((tid, threads.join(tid.to_string())));
            }
        }
    }
    let of_process = |tid: u32| (tid == pid).then_some(pid);
    tables.into_iter().map(|(tid, place)| (place, of_process(tid))).collect()
}

/// Whether two threads have the same table of descriptors (kcmp(2)). A kernel that cannot say so is
/// taken at its word that threads of one process do.
fn share_table(one: u32, other: u32) -> bool {
    const FILES: libc::c_int = 2;
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, one, other, FILES, 0, 0) };
    one == other || result <= 0
}
