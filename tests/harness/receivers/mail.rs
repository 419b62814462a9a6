use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::host::Host;

/// How a mail server takes a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    Taken,
    /// "Not now", as greylisting does.
    Later,
}

/// A mail server of a host, which takes what comes from then on.
pub struct MailServer {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    receptions: VecDeque<Reception>,
    tries: usize,
    mails: Vec<String>,
}

impl MailServer {
    pub fn start(host: &Host, receptions: impl IntoIterator<Item = Reception>) -> Result<Self> {
        let listener = host.network().run(|| Ok(TcpListener::bind(("127.0.0.1", 0))?))?;
        let port = listener.local_addr()?.port();
        let state = State { receptions: receptions.into_iter().collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let of_server = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever hangs up early has said enough.
                drop(serve(&stream, &of_server));
            }
        });
        Ok(Self { port, state })
    }

    /// The mails that were taken, with their heads.
    pub fn mails(&self) -> Vec<String> {
        lock(&self.state).mails.clone()
    }

    /// How often somebody came to the end of a mail.
    pub fn tries(&self) -> usize {
        lock(&self.state).tries
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> Result<()> {
    let mut lines = BufReader::new(stream).lines();
    stream.write_all(b"220 mail.example ESMTP\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let answer = match line.split(' ').next().unwrap_or_default() {
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                let mut mail = String::new();
                for line in lines.by_ref() {
                    let line = line?;
                    if line == "." {
                        break;
                    }
                    mail.push_str(&line);
                    mail.push('\n');
                }
                let mut state = lock(state);
                state.tries += 1;
                match state.receptions.pop_front().unwrap_or(Reception::Taken) {
                    Reception::Taken => {
                        state.mails.push(mail);
                        "250 taken"
                    }
                    Reception::Later => "451 come back later",
                }
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n")?;
                return Ok(());
            }
            _ => "250 fine",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    Ok(())
}
