//! What answers the host at the guest agent's port: QEMU's own agent, or one that a hostile guest would have,
//! which speaks as much of its protocol as libvirt does.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::pause;

/// A text for which no host has a use.
const HUGE: usize = 50 << 20;
const PIECE: usize = 4096;

/// Serves the port without end, if there is one, on a thread of its own.
pub(crate) fn spawn(kind: String) {
    std::thread::spawn(move || {
        if let Err(error) = serve(&kind) {
            println!("guest: agent: {error}");
        }
    });
}

fn serve(kind: &str) -> io::Result<()> {
    let path = port()?;
    if kind == "real" {
        return real(&path);
    }
    let mut port = OpenOptions::new().read(true).write(true).open(&path)?;
    println!("guest: agent {kind} at {}", path.display());
    if kind == "silent" {
        pause(Duration::MAX);
    }
    if kind == "endless" {
        loop {
            port.write_all(&[b'x'; PIECE])?;
        }
    }
    let mut lines = BufReader::new(port.try_clone()?);
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            // Nobody is at the other end yet.
            pause(Duration::from_millis(50));
            continue;
        }
        answer(&mut port, kind, &String::from_utf8_lossy(&line))?;
    }
}

/// A system with a name that does harm, where somebody is logged in, and QEMU's agent.
fn real(port: &Path) -> io::Result<()> {
    let name = b"lab\x1b[31m";
    // SAFETY: the name is as long as it is said to be.
    if unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    log_in(b"root")?;
    println!("guest: agent real at {}", port.display());
    let agent = Command::new("/usr/sbin/qemu-ga")
        .args(["--method=virtio-serial", "--statedir=/var/run", "--path"])
        .arg(port)
        .status()?;
    Err(io::Error::other(format!("qemu-ga ended: {agent}")))
}

/// Writes the record of a user at the console (utmp(5)).
fn log_in(user: &[u8]) -> io::Result<()> {
    File::create("/var/run/utmp")?;
    // SAFETY: all zeroes is a record without anything in it.
    let mut record: libc::utmpx = unsafe { std::mem::zeroed() };
    record.ut_type = libc::USER_PROCESS;
    record.ut_pid = 1;
    for (to, from) in record.ut_user.iter_mut().zip(user) {
        *to = from.cast_signed();
    }
    for (to, from) in record.ut_line.iter_mut().zip(b"ttyS0") {
        *to = from.cast_signed();
    }
    // SAFETY: nothing else of this process uses the file, and the record is a whole one.
    let written = unsafe {
        libc::setutxent();
        let written = !libc::pututxline(&raw const record).is_null();
        libc::endutxent();
        written
    };
    written.then_some(()).ok_or_else(io::Error::last_os_error)
}

fn answer(port: &mut File, kind: &str, line: &str) -> io::Result<()> {
    let asked = |what: &str| line.contains(&format!("\"{what}\""));
    let text = match kind {
        "garbage" => vec![0xff; 64],
        _ => b"debian".to_vec(),
    };
    let mut whole = Vec::new();
    if asked("guest-sync") {
        let id: String = line.chars().skip_while(|c| !c.is_ascii_digit()).collect();
        let id: String = id.chars().take_while(char::is_ascii_digit).collect();
        whole.extend(format!("{{\"return\": {id}}}").bytes());
    } else if asked("guest-get-osinfo") {
        println!("guest: agent asked for its system");
        whole.extend(b"{\"return\": {\"id\": \"");
        whole.extend(text);
        if kind == "huge" {
            port.write_all(&whole)?;
            for _ in 0..HUGE / PIECE {
                port.write_all(&[b'h'; PIECE])?;
            }
            whole.clear();
        }
        whole.extend(b"\", \"version-id\": \"12\", \"kernel-release\": \"6.1.0\"}}");
    } else if asked("guest-get-host-name") {
        whole.extend(b"{\"return\": {\"host-name\": \"lab\\u001b[31m\"}}");
    } else if asked("guest-get-users") {
        whole.extend(b"{\"return\": [{\"user\": \"root\", \"login-time\": 1.5}]}");
    } else {
        whole.extend(
            b"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such command\"}}",
        );
    }
    whole.push(b'\n');
    port.write_all(&whole)
}

/// The first port of the virtio console, once the driver has found it.
fn port() -> io::Result<PathBuf> {
    for _ in 0..200 {
        for entry in std::fs::read_dir("/dev")? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("vport") {
                return Ok(path);
            }
        }
        pause(Duration::from_millis(50));
    }
    Err(io::Error::other("there is no port"))
}
