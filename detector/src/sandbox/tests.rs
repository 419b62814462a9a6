use std::{
    fs::{self, File},
    io::ErrorKind,
    net::TcpListener,
    os::unix::{net::UnixStream, process::ExitStatusExt},
    process::{Command, ExitStatus},
};

use super::*;

/// What a run of this test program is to try, and whether shut in.
const TRY: &str = "DETECTOR_SANDBOX_TRY";
const STAGE: &str = "DETECTOR_SANDBOX_STAGE";
/// That it could be done.
const DONE: i32 = 7;

type Deed = (&'static str, fn() -> bool);

/// Each is done by a process that is not shut in.
const DEEDS: &[Deed] = &[
    ("read a secret", || File::open("/etc/shadow").is_ok()),
    ("make a file", || tempfile::tempfile().is_ok()),
    ("listen to the network", || TcpListener::bind("127.0.0.1:0").is_ok()),
    ("reach a socket of the host", || UnixStream::pair().is_ok()),
    ("run a program", || Command::new("/bin/true").status().is_ok_and(|status| status.success())),
    ("signal another process", || nix::sys::signal::kill(nix::unistd::getppid(), None).is_ok()),
    ("signal by a descriptor", || {
        let parent = nix::unistd::getppid().as_raw();
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: both calls take numbers only, but for what is null.
        unsafe {
            let process = libc::syscall(libc::SYS_pidfd_open, parent, 0);
            libc::syscall(libc::SYS_pidfd_send_signal, process, 0, nothing, 0) == 0
        }
    }),
    ("speak to interfaces", || crate::net::gateways().is_ok()),
    ("use bpf(2)", || crate::bpf::probe().is_ok()),
    ("hear frames", || {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).is_ok()
    }),
];

#[test]
fn tries() {
    let Ok(what) = std::env::var(TRY) else { return };
    match std::env::var(STAGE).as_deref() {
        Ok("look") => only_look().unwrap(),
        Ok("listen") => only_listen().unwrap(),
        Ok("curb") => only_curb().unwrap(),
        Ok("doorkeeper") => enter(Stage::Doorkeeper).unwrap(),
        Ok("worker") => {
            enter(Stage::Doorkeeper).unwrap();
            enter(Stage::Worker).unwrap();
        }
        _ => {}
    }
    let deed = DEEDS.iter().find(|(name, _)| *name == what);
    let done = deed.is_none_or(|(_, deed)| deed());
    // SAFETY: it does not return, and runs nothing of this process's.
    unsafe { libc::_exit(if done { DONE } else { 1 }) }
}

fn attempt(what: &str, stage: &str) -> ExitStatus {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "sandbox::tests::tries", "--nocapture"]);
    command.env(TRY, what).env(STAGE, stage).output().unwrap().status
}

#[test]
fn whoever_reads_images_reaches_nothing_else() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root could reach all of it otherwise");
        return;
    }
    for (what, _) in DEEDS {
        assert_eq!(attempt(what, "none").code(), Some(DONE), "not shut in: {what}");
        for stage in ["doorkeeper", "worker"] {
            assert_eq!(attempt(what, stage).signal(), Some(libc::SIGSYS), "{stage}: {what}");
        }
    }
    assert_eq!(attempt("nothing", "worker").code(), Some(DONE));
}

/// Of those who hold a privilege: what they do goes on, and what would make more of it does not.
#[test]
fn whoever_looks_or_listens_changes_nothing() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root could do all of it otherwise");
        return;
    }
    for what in [
        "make a file",
        "listen to the network",
        "run a program",
        "speak to interfaces",
        "use bpf(2)",
    ] {
        for stage in ["look", "listen", "curb"] {
            assert_eq!(attempt(what, stage).code(), Some(1), "{stage}: {what}");
        }
    }
    for (what, stage) in [
        ("read a secret", "look"),
        ("hear frames", "listen"),
        ("nothing", "listen"),
        ("read a secret", "curb"),
        ("signal by a descriptor", "curb"),
    ] {
        assert_eq!(attempt(what, stage).code(), Some(DONE), "{stage}: {what}");
    }
    assert_eq!(attempt("hear frames", "look").code(), Some(1));
    for what in ["hear frames", "signal another process"] {
        assert_eq!(attempt(what, "curb").code(), Some(1), "{what}");
    }
}

/// The second lock, without the first one.
#[test]
fn landlock_alone_shuts_files_and_network() {
    if landlock_version() == 0 {
        eprintln!("skipped: this kernel has no Landlock");
        return;
    }
    let tried = std::thread::spawn(|| {
        shut_files_and_network().unwrap();
        let files = [File::open("/etc/hostname").map(drop), fs::write("/tmp/detector-test", "x")];
        files.map(|result| result.map_err(|error| error.kind()))
    });
    assert_eq!(tried.join().unwrap(), [Err(ErrorKind::PermissionDenied); 2]);
}
