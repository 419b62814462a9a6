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
        Self::start_with(program, &["600"])
    }

    fn start_with(program: &Path, words: &[&str]) -> Self {
        let mut command = Command::new(program);
        Self(command.args(words).stdin(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, number: libc::c_int) {
        signal(&open(self.0.id()).unwrap(), number).unwrap();
        self.becomes(number == libc::SIGSTOP);
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
    let options = ScanOptions { interval, grace, records, ignored: Vec::new() };
    let mut curbs = Curbs::new(options, u32::MAX);
    // What a test descends from is the host's.
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
fn a_refusal_is_not_for_ever() {
    let place = tempfile::tempdir().unwrap();
    let vm = Running::start(&named_as_a_vm(place.path()));
    let (id, mut curbs, now) = (vm.id(), curbs(Vec::new()), clock::now());
    curbs.daemon = std::process::id();
    let keep = |curbs: &mut Curbs, after| {
        curbs.keep(&one(id, Curb::Suspend), now + Duration::from_secs(after)).remove(&id)
    };
    assert!(matches!(keep(&mut curbs, 0), Some(Curbed::Refused(_))));
    curbs.daemon = u32::MAX;
    assert!(matches!(keep(&mut curbs, 9), Some(Curbed::Refused(_))), "not all the time");
    assert!(!vm.is_stopped());
    assert_eq!(keep(&mut curbs, 10), Some(Curbed::Suspended));
    vm.becomes(true);
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
    // One that the daemon has started is its own, also where that is the first process of a container.
    for daemon in [std::process::id(), 1] {
        curbs.daemon = daemon;
        let said = refused(&mut curbs, id);
        assert!(said.contains("the daemon has started it"), "{daemon}: {said}");
        curbs.keep(&BTreeMap::new(), clock::now());
    }
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
    vm.signal(libc::SIGCONT);
    assert_eq!(keep(&mut curbs, Curb::Suspend), Some(Curbed::Suspended));
    vm.becomes(true);
    assert_eq!(curbs.keep(&BTreeMap::new(), clock::now()), BTreeMap::new());
    vm.becomes(false);

    assert_eq!(keep(&mut curbs, Curb::Stop), Some(Curbed::Ended));
    assert!(!vm.0.wait().unwrap().success());
    assert_eq!(keep(&mut curbs, Curb::Stop), Some(Curbed::Ended));
}

/// One that is let go on time and again is not called suspended, until it stays so.
#[test]
fn one_that_does_not_stay_suspended_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let vm = Running::start(&named_as_a_vm(place.path()));
    let id = vm.id();
    let mut curbs = curbs(Vec::new());
    let start = clock::now();
    let mut keep = |seconds| {
        let now = start + Duration::from_secs(seconds);
        curbs.keep(&one(id, Curb::Suspend), now).remove(&id).unwrap()
    };
    let let_go_on = Curbed::Refused(LET_GO_ON.to_owned());
    assert_eq!(keep(0), Curbed::Suspended);
    for (second, expect) in
        (1..).zip([&Curbed::Suspended, &Curbed::Suspended, &Curbed::Suspended, &let_go_on])
    {
        vm.becomes(true);
        vm.signal(libc::SIGCONT);
        assert_eq!(keep(second), *expect, "{second}");
        // Each look counts once, also where the signal is not acted upon yet.
        assert_eq!(keep(second), *expect, "{second}");
    }
    vm.becomes(true);
    for (second, expect) in [(30, &let_go_on), (63, &let_go_on), (64, &Curbed::Suspended)] {
        assert_eq!(keep(second), *expect, "{second}");
    }
    for second in 70..74 {
        vm.signal(libc::SIGCONT);
        keep(second);
        vm.becomes(true);
    }
    assert_eq!(keep(74), let_go_on);
    // Nobody wants it any more.
    vm.becomes(true);
    assert_eq!(curbs.keep(&BTreeMap::new(), clock::now()), BTreeMap::new());
    vm.becomes(false);
}

/// Whoever lets it run between two looks, and suspends it in time for each, has let it go on.
#[test]
fn what_runs_between_two_looks_has_run() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("qemu-system-x86_64");
    fs::copy("/bin/sh", &path).unwrap();
    let vm = Running::start_with(&path, &["-c", "while :; do :; done"]);
    let id = vm.id();
    let mut curbs = curbs(Vec::new());
    let start = clock::now();
    let mut keep = |seconds| {
        let now = start + Duration::from_secs(seconds);
        curbs.keep(&one(id, Curb::Suspend), now).remove(&id).unwrap()
    };
    let ran = || ProcFs::open().stat(id.pid).unwrap().ran;
    keep(0);
    for second in 1..=4 {
        vm.becomes(true);
        assert_eq!(keep(second), Curbed::Suspended, "{second}");
        let before = ran();
        vm.signal(libc::SIGCONT);
        while ran() == before {
            std::thread::yield_now();
        }
        vm.signal(libc::SIGSTOP);
    }
    assert_eq!(keep(5), Curbed::Refused(LET_GO_ON.to_owned()));
}
