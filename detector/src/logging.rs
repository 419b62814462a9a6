//! The log on standard error. Whoever takes it there, such as systemd's journal, may hang or be gone: then lines are
//! lost, and nobody waits for it.

use std::{
    fs::File,
    io::{self, IsTerminal, Stderr, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    sync::{Mutex, PoisonError},
};

use clap::ValueEnum;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd,
};
use tracing_subscriber::{EnvFilter, fmt, fmt::MakeWriter};

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
    let log = fmt().with_writer(Log::to(io::stderr(), format)).with_env_filter(filter);
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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Lines that nobody has taken, since the last that somebody has.
    lost: u64,
    /// The last one was taken in part.
    torn: bool,
}

impl<W: AsFd> Log<W> {
    fn to(to: W, format: LogFormat) -> Self {
        Self { to, format, state: Mutex::default() }
    }

    fn tell(&self, line: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = if state.lost == 0 { PATIENCE } else { 0 };
        let note = state.note(self.format);
        let whole = [&note, line].concat();
        match self.put(&whole, wait) {
            put if put == whole.len() => *state = State::default(),
            put => {
                // The note is told again, with one more.
                state.torn |= put > 0;
                state.lost += 1;
            }
        }
    }

    /// How much of it has been taken.
    fn put(&self, bytes: &[u8], wait: u8) -> usize {
        let mut put = 0;
        while put < bytes.len() {
            let piece = &bytes[put..bytes.len().min(put + PIECE)];
            let mut ready = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut ready, PollTimeout::from(wait)) {
                Ok(1) => {}
                Err(Errno::EINTR) => continue,
                _ => return put,
            }
            match unistd::write(self.to.as_fd(), piece) {
                Ok(written) => put += written,
                Err(Errno::EINTR) => {}
                Err(_) => return put,
            }
        }
        put
    }
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
    use std::{io::Read, os::unix::net::UnixStream};

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
}
