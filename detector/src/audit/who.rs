use std::fs;

use nix::unistd::{Pid, Uid, User};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::peer::Peer;

/// A command line is cut to what a record holds later; nobody's takes more memory than this.
const LONGEST_COMMAND: usize = 4096;
/// What the kernel says where nobody has logged in (audit(7)).
const NO_LOGIN: u32 = u32::MAX;

/// In whose name something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Who {
    /// The daemon, by its rules.
    Daemon,
    /// A person, as the kernel knows their process.
    Person(Person),
    /// A person by way of the fleet, as its monitor says.
    Fleet { monitor: String, user: String, command: Uuid },
    /// A person of whom only the user is known, from what is pinned: the record of what they asked for says more.
    User { uid: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub via: Via,
    pub uid: u32,
    pub gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub pid: i32,
    /// Its command line; any process may claim to be any command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Who logged in to begin with, which `sudo` and `su` do not change (`/proc/PID/loginuid`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_user: Option<String>,
    /// Of a program that many people use, such as the monitor: in whose name it asks, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<String>,
}

/// Which way a person took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The control socket.
    Api,
    /// The pinned maps, while no daemon lived.
    Pins,
    /// A hook of a VM manager, while no daemon answered.
    Hook,
    /// The words that the daemon was started with.
    Start,
}

impl Who {
    /// Whoever is at the other end of the socket. Blocks: users may be looked up over a network.
    pub fn peer(peer: &Peer) -> Self {
        let person = Person::of(Via::Api, peer.uid, peer.gid, peer.pid);
        Self::Person(Person { on_behalf: peer.on_behalf.clone(), ..person })
    }

    /// Whoever runs this process.
    pub fn this(via: Via) -> Self {
        let (uid, gid) = (Uid::current().as_raw(), nix::unistd::getgid().as_raw());
        Self::Person(Person::of(via, uid, gid, Pid::this().as_raw()))
    }

    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let texts: Vec<_> = match self {
            Self::Person(one) => {
                [&mut one.user, &mut one.command, &mut one.login_user, &mut one.on_behalf]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Self::Fleet { monitor, user, .. } => vec![monitor, user],
            Self::Daemon | Self::User { .. } => Vec::new(),
        };
        texts.into_iter()
    }
}

impl Person {
    fn of(via: Via, uid: u32, gid: u32, pid: i32) -> Self {
        let login_uid = login_uid(pid);
        let command = command(pid);
        let user = user(uid);
        let login_user = match login_uid {
            Some(login) if login == uid => user.clone(),
            other => other.and_then(self::user),
        };
        Self { via, uid, gid, user, pid, command, login_uid, login_user, on_behalf: None }
    }
}

fn user(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

fn login_uid(pid: i32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != NO_LOGIN)
}

fn command(pid: i32) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(LONGEST_COMMAND as u64).read_to_end(&mut bytes).ok()?;
    let words = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let words: Vec<_> = words.collect();
    Some(words.join(" ").trim_end().to_owned()).filter(|text| !text.is_empty())
}
