//! The blocking client that the command line and libvirt's hook use.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    line::LONGEST_REPLY,
    schema::{ApiError, Outcome, Reply, ReplyLine, Request, RequestLine, VERSION},
};

/// How long an ordinary request may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answers.
    #[error("the daemon does not answer on {path}")]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("the connection to the daemon broke")]
    Broken(#[from] io::Error),
    /// The daemon refused the request.
    #[error("{0}")]
    Refused(ApiError),
    #[error("the daemon's answer cannot be read ({0}): it is of another release")]
    Unintelligible(String),
}

impl Client {
    /// Connects; `timeout` bounds each reply.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, CallError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| CallError::Unreachable { path: path.to_owned(), source })?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer.
    pub fn call(&mut self, request: Request) -> Result<Reply, CallError> {
        let mut line = serde_json::to_vec(&RequestLine { v: VERSION, on_behalf: None, request })
            .map_err(|error| CallError::Unintelligible(error.to_string()))?;
        line.push(b'\n');
        // A daemon that refuses the connection answers and closes before it has read the request.
        let sent = self.stream.get_mut().write_all(&line);
        match (self.receive(), sent) {
            (Err(CallError::Broken(_)), Err(error)) => Err(error.into()),
            (answer, _) => answer,
        }
    }

    /// Waits for the next line.
    pub fn receive(&mut self) -> Result<Reply, CallError> {
        let mut line = Vec::new();
        let limit = LONGEST_REPLY as u64;
        self.stream.by_ref().take(limit).read_until(b'\n', &mut line).map_err(
            |error| match error.kind() {
                io::ErrorKind::WouldBlock => {
                    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
                }
                _ => error,
            },
        )?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon closed it").into());
        }
        let reply: ReplyLine = serde_json::from_slice(&line)
            .map_err(|error| CallError::Unintelligible(error.to_string()))?;
        match reply.outcome {
            Outcome::Ok(reply) => Ok(reply),
            Outcome::Error(error) => Err(CallError::Refused(error)),
        }
    }

    /// Waits for the lines of a watch without a limit.
    pub fn wait_forever(&self) -> Result<(), CallError> {
        Ok(self.stream.get_ref().set_read_timeout(None)?)
    }
}
