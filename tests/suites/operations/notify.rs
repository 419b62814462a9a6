//! What a service manager hears.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use detector_tests::daemon::{Daemon, Launch, Settings};
use detector_tests::scene::{PATIENCE, Scene, vm};
use nix::sys::signal::Signal;

use super::A;

/// How often the watchdog wants to hear, in microseconds.
const WATCHDOG: u64 = 2_000_000;

struct Manager(UnixDatagram);

impl Manager {
    fn launch(scene: &Scene) -> (Self, Launch) {
        let path = scene.host().path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let environment = vec![
            ("NOTIFY_SOCKET".to_owned(), path.display().to_string()),
            ("WATCHDOG_USEC".to_owned(), WATCHDOG.to_string()),
        ];
        (Self(socket), Launch { environment, ..Launch::default() })
    }

    /// The next word, within the time.
    fn hear(&self, patience: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// Waits for a word; returns those before it.
    fn await_word(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        while Instant::now() < deadline {
            let Some(word) = self.hear(PATIENCE) else { break };
            let found = wanted(&word);
            before.push(word);
            if found {
                return before;
            }
        }
        panic!("not heard; heard was {before:?}");
    }

    fn drain(&self) {
        while self.hear(Duration::from_millis(1)).is_some() {}
    }
}

#[test]
fn it_says_when_it_is_ready_alive_reloading_and_stopping() {
    let scene = Scene::new().unwrap();
    let (manager, launch) = Manager::launch(&scene);
    let settings = Settings { inventory: vm("a", "tap-a", A), ..Settings::default() };
    let mut daemon = Daemon::configure(scene.host(), &settings).unwrap();
    daemon.launch_by(launch);
    daemon.run().unwrap();
    manager.await_word(|word| word.lines().any(|line| line == "READY=1"));
    manager.await_word(|word| word.contains("WATCHDOG=1"));
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    manager.await_word(|word| word.starts_with("STATUS=Enforcing: 1 port"));

    manager.drain();
    daemon.signalled(Signal::SIGHUP).unwrap();
    let words = manager.await_word(|word| word.lines().any(|line| line == "READY=1"));
    let reloading = words.iter().find(|word| word.contains("RELOADING=1"));
    let reloading = reloading.unwrap_or_else(|| panic!("{words:?}"));
    let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.unwrap().parse::<u64>().unwrap() > 0, "{reloading}");

    daemon.terminate().unwrap();
    manager.await_word(|word| word.lines().any(|line| line == "STOPPING=1"));
}

/// The word comes from the loop itself: one that hangs says nothing, though other threads live.
#[test]
fn a_brain_that_hangs_is_noticed() {
    let scene = Scene::new().unwrap();
    let (manager, launch) = Manager::launch(&scene);
    let mut daemon = Daemon::configure(scene.host(), &Settings::default()).unwrap();
    daemon.launch_by(launch);
    daemon.run().unwrap();
    manager.await_word(|word| word.contains("WATCHDOG=1"));
    let _held = Held::thread(daemon.pid().unwrap(), "brain");
    let silent = Instant::now();
    manager.drain();
    while let Some(word) = manager.hear(Duration::from_micros(WATCHDOG)) {
        assert!(silent.elapsed() < PATIENCE, "it goes on: {word}");
    }
    assert!(daemon.pid().is_ok());
}

/// A thread that is held up by tracing it, as one is that waits for something that never comes.
struct Held(i32);

impl Held {
    fn thread(pid: u32, name: &str) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let named = tasks.filter_map(Result::ok).find(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        let tid = named.unwrap().file_name().to_str().unwrap().parse::<i32>().unwrap();
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: seizing a thread of another process, interrupting it and waiting for it touch no memory of ours.
        unsafe {
            assert_eq!(
                libc::ptrace(libc::PTRACE_SEIZE, tid, null, null),
                0,
                "cannot trace the thread"
            );
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, tid, null, null), 0);
            assert_eq!(libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL), tid);
        }
        Self(tid)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: letting a thread of another process go touches no memory of ours.
        let _ = unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, null, null) };
    }
}
