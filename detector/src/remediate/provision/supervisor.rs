//! The process between the daemon and a provisioner: takes what it prints, minds its time, and ends all of it.

use std::{
    io::{self, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{SigHandler, Signal, signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, setsid},
};

use super::{
    Ended, Job, LATER, Outcome, Said, Word, family, hear,
    output::{Lines, Tail},
};
use crate::privilege;

/// By this word the program is run as this part.
pub(crate) const WORD: &str = "supervise-provisioner";

/// Bytes that are taken at a time.
const BUFFER: usize = 64 << 10;
/// Bytes that are taken in a second on each way; who prints more has to wait.
const MOST_A_SECOND: usize = 8 << 20;
/// How often something is said at most; the last one of several that come sooner is.
const SAY_EVERY: Duration = Duration::from_millis(200);
/// How long what it has printed last may take to come, once it is gone.
const DRAIN: Duration = Duration::from_secs(2);

/// What happens.
enum Event {
    /// On its standard output.
    Said(Vec<u8>),
    /// On its standard error.
    Printed(Vec<u8>),
    /// On one of them nothing more comes.
    Closed,
    Exit(WaitStatus),
    /// The daemon has gone, or wants it to end.
    GivenUp,
}

/// Is the supervisor of one provisioner, which it reads from its standard input.
///
/// # Errors
///
/// Nothing was started.
pub(crate) fn supervise() -> io::Result<()> {
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE] {
        // SAFETY: nothing is called in place of what would be done.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    prctl::set_child_subreaper(true)?;
    // What is run from here has no privilege, whoever started this.
    privilege::keep_only(&[])?;
    let mut stdin = BufReader::new(io::stdin());
    let job: Job = hear(&mut stdin).ok_or_else(|| io::Error::other("there is nothing to do"))?;
    let (sender, events) = sync_channel(64);
    let ended = match start(&job) {
        Ok(child) => {
            follow(child, &job, &sender)?;
            let gone = sender.clone();
            thread::spawn(move || {
                // Nothing more is said: it only ends.
                let _ = io::copy(&mut stdin, &mut io::sink());
                let _ = gone.send(Event::GivenUp);
            });
            drop(sender);
            attend(&events, &job)
        }
        Err(error) => Ended {
            outcome: Outcome::Failed {
                why: format!("{:?} cannot be run: {error}", job.command.first()),
            },
            output: String::new(),
            printed: 0,
            strays: 0,
        },
    };
    say(&Word::Ended(Box::new(ended)));
    Ok(())
}

fn start(job: &Job) -> io::Result<Child> {
    let (program, arguments) =
        job.command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", &job.directory)
        .current_dir(&job.directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: only system calls that are safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            for usual in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE] {
                signal(usual, SigHandler::SigDfl)?;
            }
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        });
    }
    command.spawn()
}

/// Has threads tell what it prints and that it has ended, and hand it the request.
fn follow(mut child: Child, job: &Job, sender: &SyncSender<Event>) -> io::Result<()> {
    let mut request = serde_json::to_vec(&job.request)?;
    request.push(b'\n');
    if let Some(mut stdin) = child.stdin.take() {
        // It need not be read.
        thread::spawn(move || stdin.write_all(&request));
    }
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    if let Some(stdout) = stdout {
        let sender = sender.clone();
        thread::spawn(move || take(stdout, Event::Said, &sender));
    }
    if let Some(stderr) = stderr {
        let sender = sender.clone();
        thread::spawn(move || take(stderr, Event::Printed, &sender));
    }
    let own = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let sender = sender.clone();
    thread::spawn(move || {
        // Also those who come to be children here.
        loop {
            match waitpid(None, None) {
                Ok(status) if status.pid() == Some(own) => {
                    if sender.send(Event::Exit(status)).is_err() {
                        return;
                    }
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    });
    Ok(())
}

fn take(mut from: impl Read, event: fn(Vec<u8>) -> Event, sender: &SyncSender<Event>) {
    let mut buffer = vec![0; BUFFER];
    let (mut since, mut taken) = (Instant::now(), 0);
    loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(count) => {
                taken += count;
                if sender.send(event(buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        }
        if taken >= MOST_A_SECOND {
            thread::park_timeout(Duration::from_secs(1).saturating_sub(since.elapsed()));
            (since, taken) = (Instant::now(), 0);
        }
    }
    // Where nobody listens any more it does not matter.
    let _ = sender.send(Event::Closed);
}

/// Until it has ended, is given up, or its time is up; nothing of it is left then.
fn attend(events: &Receiver<Event>, job: &Job) -> Ended {
    let until = Instant::now() + Duration::from_secs(job.seconds);
    let mut heard = Heard::new(job.keep);
    let mut said = Instant::now();
    let mut late = false;
    let end = loop {
        let next = until.min(heard.waits.as_ref().map_or(until, |_| said + SAY_EVERY));
        match events.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Event::Exit(status)) => break Some(status),
            Ok(Event::GivenUp) | Err(RecvTimeoutError::Disconnected) => break None,
            Ok(other) => heard.take(other),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() >= until {
            late = true;
            break None;
        }
        if said.elapsed() >= SAY_EVERY {
            heard.hand_on();
            said = Instant::now();
        }
    };
    let (ended, gone) = family::end_all();
    // With all of them gone nobody holds the other ends of what is read from.
    let drained = Instant::now() + DRAIN;
    while heard.open > 0 {
        let left = drained.saturating_duration_since(Instant::now());
        let Ok(event) = events.recv_timeout(left) else { break };
        heard.take(event);
    }
    heard.hand_on();
    let outcome = match end {
        _ if !gone => Outcome::Failed { why: "what it has started cannot be ended".to_owned() },
        Some(status) => judge(status, heard.result),
        None if late => {
            Outcome::Late { why: format!("it has not ended in {} s, and was ended", job.seconds) }
        }
        None => Outcome::GivenUp,
    };
    let strays = if end.is_some() { ended } else { ended.saturating_sub(1) };
    Ended { outcome, output: heard.tail.text(), printed: heard.tail.printed, strays }
}

/// What was printed.
struct Heard {
    lines: Lines,
    tail: Tail,
    result: Option<Claim>,
    /// What was said last and has not been handed on.
    waits: Option<Said>,
    /// Ways that something may come on still.
    open: u32,
}

/// Whether it takes itself to have done its work, whether that has changed anything, and what it says of it.
type Claim = (bool, Option<bool>, String);

impl Heard {
    fn new(keep: usize) -> Self {
        Self { lines: Lines::default(), tail: Tail::new(keep), result: None, waits: None, open: 2 }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Said(bytes) => {
                self.tail.take(&bytes);
                for said in self.lines.take(&bytes) {
                    if let Said::Result { ok, changed, message } = &said {
                        self.result = Some((*ok, *changed, message.clone()));
                    }
                    self.waits = Some(said);
                }
            }
            Event::Printed(bytes) => self.tail.take(&bytes),
            Event::Closed => self.open = self.open.saturating_sub(1),
            Event::Exit(_) | Event::GivenUp => {}
        }
    }

    fn hand_on(&mut self) {
        if let Some(said) = self.waits.take() {
            say(&Word::Said(said));
        }
    }
}

/// The strictest of what it says and how it ends.
fn judge(status: WaitStatus, result: Option<Claim>) -> Outcome {
    let said = |result: Option<Claim>| match result {
        Some((true, _, message)) => format!("; it has said that it was done ({message})"),
        Some((false, _, message)) => format!(": {message}"),
        None => String::new(),
    };
    match (status, result) {
        (WaitStatus::Exited(_, 0), Some((false, _, message))) => {
            Outcome::Failed { why: format!("it says that it has failed: {message}") }
        }
        (WaitStatus::Exited(_, 0), Some((true, changed, message))) => {
            Outcome::Done { changed, message }
        }
        (WaitStatus::Exited(_, 0), None) => Outcome::Done { changed: None, message: String::new() },
        (WaitStatus::Exited(_, LATER), result) => {
            Outcome::Later { why: format!("it cannot do it now{}", said(result)) }
        }
        (WaitStatus::Exited(_, code), result) => {
            Outcome::Failed { why: format!("it has ended with code {code}{}", said(result)) }
        }
        (status, result) => {
            let by = match status {
                WaitStatus::Signaled(_, signal, _) => signal.as_str(),
                _ => "something unknown",
            };
            Outcome::Failed { why: format!("it was ended by {by}{}", said(result)) }
        }
    }
}

fn say(word: &Word) {
    let Ok(mut line) = serde_json::to_vec(word) else { return };
    line.push(b'\n');
    // Where nobody listens any more, nobody is missed.
    let mut out = io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_word_holds() {
        let pid = Pid::from_raw(1);
        let exited = |code| WaitStatus::Exited(pid, code);
        let ok = || Some((true, Some(true), "fine".to_owned()));
        let not = || Some((false, None, "no disk".to_owned()));
        let failed = |why: &str| Outcome::Failed { why: why.to_owned() };
        let cases = [
            (exited(0), None, Outcome::Done { changed: None, message: String::new() }),
            (exited(0), ok(), Outcome::Done { changed: Some(true), message: "fine".to_owned() }),
            (exited(0), not(), failed("it says that it has failed: no disk")),
            (
                exited(3),
                ok(),
                failed("it has ended with code 3; it has said that it was done (fine)"),
            ),
            (exited(3), not(), failed("it has ended with code 3: no disk")),
            (exited(LATER), None, Outcome::Later { why: "it cannot do it now".to_owned() }),
            (
                WaitStatus::Signaled(pid, Signal::SIGSEGV, false),
                None,
                failed("it was ended by SIGSEGV"),
            ),
        ];
        for (status, result, expect) in cases {
            assert_eq!(judge(status, result), expect);
        }
    }
}
