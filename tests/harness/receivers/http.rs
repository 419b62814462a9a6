use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::host::Host;

/// How a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// Not at all, while the connection stays open.
    Never,
    /// With what is no HTTP.
    Garbage,
    /// A head, and then a body without end.
    Endless,
}

/// What was posted.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        headers.find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// A web server of a host that answers as it is told, and by 204 from then on.
pub struct Web {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    requests: Vec<Request>,
    /// Connections that are never answered.
    held: Vec<TcpStream>,
}

impl Web {
    pub fn start(host: &Host, answers: impl IntoIterator<Item = Answer>) -> Result<Self> {
        let listener = host.network().run(|| Ok(TcpListener::bind(("127.0.0.1", 0))?))?;
        let port = listener.local_addr()?.port();
        let state = State { answers: answers.into_iter().collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let of_server = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&of_server);
                // Whoever hangs up early has said enough.
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Ok(Self { port, state })
    }

    /// Everything that has been posted, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).context("no path")?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut request = Request { path, headers, body: Vec::new() };
    let length = request.header("content-length").parse()?;
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    let answer = {
        let mut state = lock(state);
        state.requests.push(request);
        state.answers.pop_front().unwrap_or(Answer::Status(204))
    };
    match answer {
        Answer::Status(status) => {
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nno")?;
        }
        Answer::Never => lock(state).held.push(stream),
        Answer::Garbage => stream.write_all(b"220 mail.example ESMTP\r\n")?,
        Answer::Endless => {
            write!(stream, "HTTP/1.1 503 X\r\n\r\n")?;
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        }
    }
    Ok(())
}
