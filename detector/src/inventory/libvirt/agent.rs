//! Asks the agents inside of guests what they say of themselves.
//!
//! A guest may answer with anything, slowly or never, so that a thread with a connection of its own asks:
//! nothing waits for it. libvirt bounds what it takes from an agent; what it hands on is bounded here.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CStr,
    io, ptr,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use detector_core::model::GuestClaims;
use uuid::Uuid;
use virt::{
    connect::Connect,
    domain::Domain,
    error::{Error, ErrorNumber},
    sys,
};

use super::backoff::Backoff;

/// How often a guest is asked that answers.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked which guests there are.
const LOOK: Duration = Duration::from_secs(5);
/// After how long a guest is asked again that has not answered, then after twice as long, and so on …
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// … up to this: silent guests must not keep others from being asked.
const LAST_RETRY: Duration = Duration::from_secs(600);

/// How long libvirt waits for an agent, in seconds.
const PATIENCE: i32 = 5;

/// What is asked for. Each by itself: an agent need not know all of it.
const QUESTIONS: [sys::virDomainGuestInfoTypes; 3] = [
    sys::VIR_DOMAIN_GUEST_INFO_OS,
    sys::VIR_DOMAIN_GUEST_INFO_HOSTNAME,
    sys::VIR_DOMAIN_GUEST_INFO_USERS,
];

/// Guests of one libvirt are asked for as long as this value lives.
#[derive(Debug)]
pub struct Agents {
    /// The thread ends when this is gone.
    _alive: Sender<()>,
}

impl Agents {
    /// Starts to ask. `tell` gets what a guest says, or that it says nothing any more, and returns false
    /// when nobody wants to know.
    pub fn spawn(
        uri: &str,
        tell: impl Fn(Uuid, Option<GuestClaims>) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (alive, ended) = channel();
        let asker = Asker { uri: uri.to_owned(), ended, tell: Box::new(tell) };
        thread::Builder::new().name("guest-agents".to_owned()).spawn(move || asker.run())?;
        Ok(Self { _alive: alive })
    }
}

struct Asker {
    uri: String,
    ended: Receiver<()>,
    tell: Box<dyn Fn(Uuid, Option<GuestClaims>) -> bool + Send>,
}

/// When a guest is asked next, and how often it has not answered in a row.
struct Turn {
    due: Instant,
    failures: u32,
}

/// Why asking ended for good.
struct Stopped;

impl Asker {
    fn run(&self) {
        let mut backoff = Backoff::default();
        let mut turns = BTreeMap::new();
        loop {
            let since = Instant::now();
            match self.ask_all(&mut turns) {
                Err(Stopped) => return,
                Ok(error) => tracing::debug!(uri = %self.uri, %error, "guest agents"),
            }
            if !self.pause(backoff.pause_after(since.elapsed())) {
                return;
            }
        }
    }

    /// Asks until the connection is lost; why.
    fn ask_all(&self, turns: &mut BTreeMap<Uuid, Turn>) -> Result<Error, Stopped> {
        // Asking an agent is a write to libvirt.
        let mut connection = match Connect::open(Some(&self.uri)) {
            Ok(connection) => connection,
            Err(error) => return Ok(error),
        };
        let ended = loop {
            match connection.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE) {
                Ok(domains) => self.ask_due(&domains, turns)?,
                Err(error) => break Ok(error),
            }
            if !self.pause(LOOK) {
                break Err(Stopped);
            }
        };
        let _ = connection.close();
        ended
    }

    fn ask_due(&self, domains: &[Domain], turns: &mut BTreeMap<Uuid, Turn>) -> Result<(), Stopped> {
        let running: BTreeSet<_> = domains.iter().filter_map(|one| one.get_uuid().ok()).collect();
        turns.retain(|uuid, _| running.contains(uuid));
        for domain in domains {
            let Ok(uuid) = domain.get_uuid() else { continue };
            let now = Instant::now();
            let turn = turns.entry(uuid).or_insert(Turn { due: now, failures: 0 });
            if turn.due > now {
                continue;
            }
            let claims = ask(domain);
            let wait = match &claims {
                Some(_) => INTERVAL,
                None => FIRST_RETRY.saturating_mul(1 << turn.failures.min(10)).min(LAST_RETRY),
            };
            turn.failures = if claims.is_some() { 0 } else { turn.failures.saturating_add(1) };
            turn.due = Instant::now() + wait;
            if !(self.tell)(uuid, claims) {
                return Err(Stopped);
            }
        }
        Ok(())
    }

    /// False when it is time to end.
    fn pause(&self, span: Duration) -> bool {
        matches!(self.ended.recv_timeout(span), Err(RecvTimeoutError::Timeout))
    }
}

/// What the agent of a guest says; none where there is no agent, or it says nothing.
fn ask(domain: &Domain) -> Option<GuestClaims> {
    // SAFETY: the domain is alive; the call takes plain numbers.
    let set = unsafe { sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), PATIENCE, 0) };
    if set < 0 {
        return None;
    }
    let mut claims = GuestClaims::default();
    for question in QUESTIONS {
        match answer(domain, question, &mut claims) {
            Ok(()) => {}
            // It does not know this question, and may know the next.
            Err(error) if error.code() == ErrorNumber::OperationUnsupported => {}
            Err(error) => {
                tracing::debug!(%error, "a guest's agent");
                return None;
            }
        }
    }
    (!claims.is_silent()).then_some(claims)
}

fn answer(domain: &Domain, question: u32, claims: &mut GuestClaims) -> Result<(), Error> {
    let mut params: sys::virTypedParameterPtr = ptr::null_mut();
    let mut count = 0;
    // SAFETY: the domain is alive, and libvirt writes a pointer to an array that it has allocated, and its
    // length.
    let got = unsafe {
        sys::virDomainGetGuestInfo(domain.as_ptr(), question, &mut params, &mut count, 0)
    };
    if got < 0 {
        return Err(Error::last_error());
    }
    let length = usize::try_from(count).unwrap_or(0);
    let all: &[sys::virTypedParameter] = if params.is_null() {
        &[]
    } else {
        // SAFETY: the array has that many entries, and lives until it is freed below.
        unsafe { std::slice::from_raw_parts(params, length) }
    };
    for parameter in all {
        if let Some((name, value)) = text(parameter) {
            take(claims, name, value);
        }
    }
    // SAFETY: the array is ours, and nobody has freed it; nothing borrows from it any more.
    unsafe { sys::virTypedParamsFree(params, count) };
    Ok(())
}

/// Name and value of a parameter that is a text. One that is no UTF-8 is none.
fn text(parameter: &sys::virTypedParameter) -> Option<(&str, &str)> {
    if parameter.type_.cast_unsigned() != sys::VIR_TYPED_PARAM_STRING {
        return None;
    }
    // SAFETY: any bytes are characters of C.
    let name = unsafe { &*(&raw const parameter.field as *const [u8; 80]) };
    let name = CStr::from_bytes_until_nul(name).ok()?.to_str().ok()?;
    // SAFETY: the type says that the value is a text of libvirt's.
    let value = unsafe { parameter.value.s };
    if value.is_null() {
        return None;
    }
    // SAFETY: such a text ends with a zero, and lives as long as the parameter.
    let value = unsafe { CStr::from_ptr(value) }.to_str().ok()?;
    Some((name, value))
}

fn take(claims: &mut GuestClaims, name: &str, value: &str) {
    let bounded = || Some(value.chars().take(GuestClaims::LONGEST).collect::<String>());
    match name {
        "os.id" => claims.os_id = bounded(),
        "os.version-id" => claims.os_version = bounded(),
        "os.kernel-release" => claims.kernel = bounded(),
        "hostname" => claims.hostname = bounded(),
        name if name.starts_with("user.") && name.ends_with(".name") => {
            let users = claims.users.get_or_insert_default();
            let user: String = value.chars().take(GuestClaims::LONGEST).collect();
            if let Err(place) = users.binary_search(&user)
                && users.len() < GuestClaims::MOST_USERS
            {
                users.insert(place, user);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_bounded() {
        let mut claims = GuestClaims::default();
        let long = "é".repeat(10_000);
        for (name, value) in [
            ("os.id", "debian"),
            ("os.version-id", "12"),
            ("os.kernel-release", "6.1.0"),
            ("os.pretty-name", "not taken"),
            ("hostname", long.as_str()),
            ("user.0.login-time", "1"),
            ("user.0.name", "root"),
            ("user.1.name", "root"),
        ] {
            take(&mut claims, name, value);
        }
        let expect = GuestClaims {
            os_id: Some("debian".to_owned()),
            os_version: Some("12".to_owned()),
            kernel: Some("6.1.0".to_owned()),
            hostname: Some("é".repeat(GuestClaims::LONGEST)),
            users: Some(vec!["root".to_owned()]),
        };
        assert_eq!(claims, expect);
        for number in 0..10_000 {
            take(&mut claims, "user.7.name", &format!("{number}"));
        }
        assert_eq!(claims.users.unwrap().len(), GuestClaims::MOST_USERS);
    }

    #[test]
    fn a_parameter_is_a_text_or_nothing() {
        // SAFETY: all zero is a parameter of no type, with an empty name.
        let mut parameter: sys::virTypedParameter = unsafe { std::mem::zeroed() };
        assert_eq!(text(&parameter), None);
        parameter.type_ = sys::VIR_TYPED_PARAM_STRING.cast_signed();
        assert_eq!(text(&parameter), None, "no value");
        parameter.field[..2].copy_from_slice(&[b'o'.cast_signed(), 0]);
        for (value, expect) in [(c"debian", Some(("o", "debian"))), (c"\xff", None)] {
            parameter.value.s = value.as_ptr().cast_mut();
            assert_eq!(text(&parameter), expect);
        }
    }
}
