//! The daemon's processes that have a privilege each.

use std::process::{Command, Stdio};

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::scene::{PATIENCE, Scene, vm};
use detector_tests::{artefacts, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::A;

/// The process of the daemon that does the work of this word; where somebody looks after it, that one has started it.
pub(super) fn part(daemon: &Daemon<'_>, word: &str) -> Option<Pid> {
    let first = child(daemon.pid().unwrap(), word)?;
    child(first, word).or(Some(first)).map(|pid| Pid::from_raw(i32::try_from(pid).unwrap()))
}

/// A child of the process that was started with this word.
fn child(of: u32, word: &str) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).ok()?.filter_map(Result::ok);
    let read = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    let children: Vec<u32> = tasks
        .filter_map(|task| read(task).ok())
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect();
    children.into_iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|one| one == word.as_bytes())
    })
}

/// What a process with a privilege has mapped is what could be turned against it: the C library, and itself.
pub(super) fn assert_nothing_is_mapped(daemon: &Daemon<'_>) {
    let files = |pid: u32| -> Vec<String> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let mut names: Vec<_> = paths
            .filter(|path| path.starts_with('/'))
            .map(|path| path.rsplit('/').next().unwrap().to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let brain = daemon.pid().unwrap();
    assert!(files(brain).iter().any(|name| name.starts_with("libvirt.so")), "{:?}", files(brain));
    for word in ["enforce-orders", "scan-processes", "listen-to-ports"] {
        let first = child(brain, word).unwrap();
        for pid in [Some(first), child(first, word)].into_iter().flatten() {
            let files = files(pid);
            // The last two are the C library's own, by which it finds users.
            let known = |name: &String| {
                [
                    "detector-part",
                    "libc.so",
                    "libm.so",
                    "libgcc_s.so",
                    "ld-linux",
                    "libnss_",
                    "libcap.so",
                ]
                .iter()
                .any(|known| name.starts_with(known))
            };
            assert!(files.iter().all(known), "{word}: {files:?}");
        }
    }
    // Nor is anything of that inside of the program.
    let program = std::fs::read(artefacts::part().unwrap()).unwrap();
    let daemon = std::fs::read(artefacts::detector().unwrap()).unwrap();
    for what in ["virConnectOpen", "SQLite format 3", "tls13 "] {
        let holds = |program: &[u8]| memchr::memmem::find(program, what.as_bytes()).is_some();
        assert!(holds(&daemon), "{what}: nobody has it");
        assert!(!holds(&program), "{what}: it is linked to what has privileges");
    }
}

/// Whoever kills them has them looked for a while later, and is told of.
#[test]
fn who_scans_and_who_listens_are_started_again() {
    let scene = Scene::new().unwrap();
    let more = "[scan]\ninterval = \"200ms\"\ngrace = \"100ms\"\n";
    let inventory = vm("a", "tap-a", A);
    let settings = Settings { inventory, more: more.to_owned(), ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let living = |word: &str, not: Option<Pid>| {
        wait::until(&format!("{word} to be there"), PATIENCE, || {
            let first = child(daemon.pid()?, word);
            let found = first.and_then(|first| child(first, word));
            let found = found.map(|pid| Pid::from_raw(i32::try_from(pid).unwrap()));
            Ok(found.filter(|pid| Some(*pid) != not))
        })
        .unwrap()
    };
    for (word, subject) in
        [("scan-processes", "the process scan"), ("listen-to-ports", "what ports ask for")]
    {
        let before = living(word, None);
        kill(before, Signal::SIGKILL).unwrap();
        let finding = daemon.await_finding("source-lost", subject, PATIENCE).unwrap();
        assert!(finding.to_string().contains("signal: 9"), "{finding}");
        living(word, Some(before));
    }
    daemon.await_no_finding("source-lost", PATIENCE).unwrap();
    // They do their work.
    let mut holder = Command::new(artefacts::holder().unwrap());
    holder.args(["tap", "hidden0"]).stdin(Stdio::piped());
    let mut holder = scene.host().spawn(&mut holder).unwrap();
    let listed = wait::until("the process that holds a tap to be listed", PATIENCE, || {
        let list = daemon.ask(&["process", "list"])?.json;
        Ok(list.to_string().contains("/holder").then_some(()))
    });
    drop(holder.stdin.take());
    holder.wait().unwrap();
    listed.unwrap();
}
