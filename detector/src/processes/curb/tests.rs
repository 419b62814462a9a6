use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::*;
use crate::clock;

/// Runs a program under a name of QEMU's, which makes a VM of it to whoever goes by names.
struct Running(Child);

impl Running {
    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        Self(command.arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn id(&self) -> ProcessId {
        ProcFs::open().stat(self.0.id()).unwrap().id
    }

    fn is_stopped(&self) -> bool {
        ProcFs::open().stat(self.0.id()).is_some_and(|stat| stat.is_stopped())
    }

    fn becomes(&self, stopped: bool) {
        let start = Instant::now();
        while self.is_stopped() != stopped {
            assert!(start.elapsed() < Duration::from_secs(20), "stopped is not {stopped}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn named_as_a_vm(place: &Path) -> std::path::PathBuf {
    let path = place.join("qemu-system-x86_64");
    fs::copy("/bin/sleep", &path).unwrap();
    path
}

fn curbs(records: Vec<std::path::PathBuf>) -> Curbs {
    let (interval, grace) = (Duration::from_secs(1), Duration::ZERO);
    let mut curbs = Curbs::new(ScanOptions { interval, grace, records, ignored: Vec::new() });
    // What a test starts it has started itself: as if that were the daemon's doing only further up.
    curbs.own.truncate(1);
    curbs
}

fn one(id: ProcessId, how: Curb) -> BTreeMap<ProcessId, Curb> {
    BTreeMap::from([(id, how)])
}

fn refused(curbs: &mut Curbs, id: ProcessId) -> String {
    match curbs.keep(&one(id, Curb::Stop), clock::now()).remove(&id) {
        Some(Curbed::Refused(why)) => why,
        other => panic!("{id}: {other:?}"),
    }
}

#[test]
fn only_a_vm_that_is_still_the_same_process_is_touched() {
    let place = tempfile::tempdir().unwrap();
    let (vm, other) =
        (Running::start(&named_as_a_vm(place.path())), Running::start("/bin/sleep".as_ref()));
    let mut curbs = curbs(Vec::new());
    // Another life of its number, the process of nobody's VM, the host's first, this one, and none at all.
    let id = vm.id();
    let cases = [
        (ProcessId { started: id.started + 1, ..id }, "no such process"),
        (other.id(), "no VM's"),
        (ProcessId { pid: 1, started: 0 }, "runs by"),
        (ProcessId { pid: std::process::id(), started: 0 }, "runs by"),
        (ProcessId { pid: 0, started: 0 }, "runs by"),
        (ProcessId { pid: 4_194_304, started: 0 }, "cannot be opened"),
    ];
    for (id, why) in cases {
        let said = refused(&mut curbs, id);
        assert!(said.contains(why), "{id}: {said}");
    }
    for process in [&vm, &other] {
        assert!(!process.is_stopped() && ProcFs::open().stat(process.0.id()).is_some());
    }
    // One that the daemon has started is its own.
    curbs.own = vec![u32::MAX, u32::MAX - 1, std::process::id()];
    assert!(refused(&mut curbs, id).contains("the daemon has started it"));
}

#[test]
fn what_a_manager_has_recorded_is_the_managers() {
    let place = tempfile::tempdir().unwrap();
    let vm = Running::start(&named_as_a_vm(place.path()));
    let records = place.path().join("records");
    fs::create_dir(&records).unwrap();
    fs::write(records.join("web1.pid"), vm.0.id().to_string()).unwrap();
    let mut curbs = curbs(vec![records]);
    assert!(refused(&mut curbs, vm.id()).contains("recorded it"));
    assert!(!vm.is_stopped());
}

#[test]
fn a_suspended_one_stays_so_until_nobody_wants_it_and_an_ended_one_is_gone() {
    let place = tempfile::tempdir().unwrap();
    let mut vm = Running::start(&named_as_a_vm(place.path()));
    let id = vm.id();
    let mut curbs = curbs(Vec::new());
    let keep = |curbs: &mut Curbs, how| curbs.keep(&one(id, how), clock::now()).remove(&id);
    assert_eq!(keep(&mut curbs, Curb::Suspend), Some(Curbed::Suspended));
    vm.becomes(true);
    // Whoever runs it lets it go on.
    let process = open(id.pid).unwrap();
    signal(&process, libc::SIGCONT).unwrap();
    vm.becomes(false);
    assert_eq!(keep(&mut curbs, Curb::Suspend), Some(Curbed::Suspended));
    vm.becomes(true);
    assert_eq!(curbs.keep(&BTreeMap::new(), clock::now()), BTreeMap::new());
    vm.becomes(false);

    assert_eq!(keep(&mut curbs, Curb::Stop), Some(Curbed::Ended));
    assert!(!vm.0.wait().unwrap().success());
    assert_eq!(keep(&mut curbs, Curb::Stop), Some(Curbed::Ended));
}
