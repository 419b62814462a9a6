//! The log on standard error. Whoever takes it there, such as systemd's journal, may hang or be gone: then lines are
//! lost, and nobody waits for it. A journal that was gone and comes back gets what is said from then on.

use std::{
    fs::File,
    io::{self, IsTerminal, Stderr, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use clap::ValueEnum;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat,
    unistd,
};
use tracing_subscriber::{EnvFilter, fmt, fmt::MakeWriter};

use crate::journal;

/// How long the first line that is not taken is waited for, in milliseconds.
const PATIENCE: u8 = 50;
/// Whoever takes so much without waiting has room for as much again (a page of a pipe, a fraction of a socket's buffer).
const PIECE: usize = 4096;

/// Its form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Begins to log, at the level that the environment names.
pub(crate) fn begin(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Where that fails, one of several writers to a pipe that is full may have to wait.
    let _ = own_pipe();
    let journal = is_journals().then(|| journal::SOCKET.into());
    let log = Log { journal, ..Log::to(io::stderr(), format) };
    let log = fmt().with_writer(log).with_env_filter(filter);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
    }
}

/// Several processes write to one pipe, and between a look and a writing it may have filled. Whether to wait is a
/// property of the open file, which is others' as well: so it is opened once more.
fn own_pipe() -> io::Result<()> {
    const STDERR: &str = "/proc/self/fd/2";
    if std::fs::metadata(STDERR)?.file_type().is_fifo() {
        let flags = libc::O_NONBLOCK;
        unistd::dup2_stderr(File::options().write(true).custom_flags(flags).open(STDERR)?)?;
    }
    Ok(())
}

/// Writes lines where somebody takes them.
struct Log<W = Stderr> {
    to: W,
    format: LogFormat,
    /// Where systemd's journal takes entries, if that is who has the lines.
    journal: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Lines that nobody has taken, since the last that somebody has.
    lost: u64,
    /// The last one was taken in part.
    torn: bool,
    /// The stream to the journal has been cut, and nobody else has its other end.
    cut: bool,
}

/// What has come of a line.
enum Put {
    Whole,
    /// Nobody takes it now; whether some of it was taken.
    Short(bool),
    /// Nobody will take anything here again.
    Cut,
}

impl<W: AsFd> Log<W> {
    fn to(to: W, format: LogFormat) -> Self {
        Self { to, format, journal: None, state: Mutex::default() }
    }

    fn tell(&self, line: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = if state.lost == 0 { PATIENCE } else { 0 };
        let note = state.note(self.format);
        let whole = [&note, line].concat();
        let put = if state.cut { Put::Cut } else { self.put(&whole, wait) };
        let taken = match put {
            Put::Whole => true,
            Put::Short(torn) => {
                state.torn |= torn;
                false
            }
            Put::Cut => {
                (state.cut, state.torn) = (true, false);
                self.enter(&whole)
            }
        };
        // The note is told again, with one more.
        state.lost = if taken { 0 } else { state.lost + 1 };
        state.torn &= !taken;
    }

    fn put(&self, bytes: &[u8], wait: u8) -> Put {
        let mut put = 0;
        while put < bytes.len() {
            let piece = &bytes[put..bytes.len().min(put + PIECE)];
            let mut ready = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut ready, PollTimeout::from(wait)) {
                Ok(1) => {}
                Err(Errno::EINTR) => continue,
                _ => return Put::Short(put > 0),
            }
            match unistd::write(self.to.as_fd(), piece) {
                Ok(written) => put += written,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Put::Cut,
                Err(_) => return Put::Short(put > 0),
            }
        }
        Put::Whole
    }

    /// Hands lines to the journal without a stream, so that its end and its new beginning are no matter. Whether it
    /// has taken them.
    fn enter(&self, lines: &[u8]) -> bool {
        /// As systemd has it for what comes by the stream.
        const INFO: &str = "6";
        let Some(path) = &self.journal else { return false };
        let text = String::from_utf8_lossy(lines);
        let said = text.lines().filter(|line| !line.is_empty()).try_for_each(|line| {
            let identifier = ("SYSLOG_IDENTIFIER", "detector".to_owned());
            let priority = ("PRIORITY", INFO.to_owned());
            let entry = journal::entry([("MESSAGE", line.to_owned()), identifier, priority]);
            journal::send(path, &entry)
        });
        said.is_ok()
    }
}

/// Whether standard error is the stream to systemd's journal that the service manager has named (systemd.exec(5)).
fn is_journals() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let is = stat::fstat(io::stderr()).map(|it| format!("{}:{}", it.st_dev, it.st_ino));
    is.is_ok_and(|is| is == named)
}

impl State {
    fn note(&self, format: LogFormat) -> Vec<u8> {
        let end = if self.torn { "\n" } else { "" };
        let note = match (self.lost, format) {
            (0, _) => String::new(),
            (lost, LogFormat::Text) => {
                format!("{end} WARN {lost} lines of the log were not taken and are lost\n")
            }
            (lost, LogFormat::Json) => format!(
                "{end}{{\"level\":\"WARN\",\"fields\":{{\"message\":\"lines of the log were not taken and are lost\",\
                 \"lost\":{lost}}},\"target\":\"detector::logging\"}}\n"
            ),
        };
        note.into_bytes()
    }
}

/// One line for the log, which comes as a whole.
struct Line<'a, W>(&'a Log<W>);

impl<W: AsFd> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.tell(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: AsFd + 'a> MakeWriter<'a> for Log<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::net::{UnixDatagram, UnixStream},
    };

    use super::*;

    /// As systemd's journal is: a socket that takes no more.
    #[test]
    fn nobody_waits_for_who_takes_no_lines_and_it_is_told_how_many_were_lost() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let (to, mut journal) = UnixStream::pair().unwrap();
            let log = Log::to(to, format);
            let line = format!("{}\n", "x".repeat(1000));
            for _ in 0..2_000 {
                log.make_writer().write_all(line.as_bytes()).unwrap();
            }
            let lost = log.state.lock().unwrap().lost;
            assert!((1..2_000).contains(&lost), "{lost}");
            journal.set_nonblocking(true).unwrap();
            let mut taken = Vec::new();
            let _ = journal.read_to_end(&mut taken);
            log.make_writer().write_all(b"after\n").unwrap();
            let _ = journal.read_to_end(&mut taken);
            let text = String::from_utf8(taken).unwrap();
            let lines: Vec<_> = text.lines().collect();
            let [.., note, last] = lines.as_slice() else { panic!("{text}") };
            assert!(note.contains("are lost") && note.contains(&lost.to_string()), "{note}");
            assert_eq!(*last, "after");
            assert_eq!(format == LogFormat::Json, note.starts_with('{'), "{note}");
            assert!(lines.iter().filter(|line| line.len() == 1000).count() as u64 >= 1_999 - lost);
        }
    }

    /// A journal that has ended takes nothing by the stream to it, nor does the one that follows.
    #[test]
    fn a_journal_that_comes_back_is_told_how_many_lines_it_has_missed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        for format in [LogFormat::Text, LogFormat::Json] {
            let (to, end) = UnixStream::pair().unwrap();
            let log = Log { journal: Some(path.clone()), ..Log::to(to, format) };
            log.make_writer().write_all(b"before\n").unwrap();
            drop(end);
            for _ in 0..3 {
                log.make_writer().write_all(b"missed\n").unwrap();
            }
            let journal = UnixDatagram::bind(&path).unwrap();
            log.make_writer().write_all(b"after\n").unwrap();
            for wanted in ["are lost", "after", "later"] {
                let mut entry = [0; 1024];
                let length = journal.recv(&mut entry).unwrap();
                let entry = String::from_utf8_lossy(&entry[..length]);
                assert!(entry.contains("MESSAGE\n") && entry.contains(wanted), "{entry}");
                assert!(wanted != "are lost" || entry.contains('3'), "{entry}");
                if wanted == "after" {
                    log.make_writer().write_all(b"later\n").unwrap();
                }
            }
            drop(journal);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
