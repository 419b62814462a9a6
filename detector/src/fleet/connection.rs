//! A connection to a fleet's NATS for a moment: to make its buckets, tell its servers who is revoked, offer a bundle.

use std::{io, path::Path, time::Duration};

use async_nats::{
    Client, ConnectOptions,
    jetstream::{
        self,
        context::PublishErrorKind,
        message::PublishMessage,
        stream::{self, LastRawMessageErrorKind},
    },
};
use bytes::Bytes;
use detector_core::fleet::{
    Name,
    bundle::Sealed,
    message::{self, Announcement, seal},
    roll_out::RollOut,
    subject::{self, PLACES, Place},
};
use serde::{Deserialize, de::DeserializeOwned};

/// How long anything may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The same message is taken once within this time.
const ONCE: Duration = Duration::from_secs(30 * 60);
const DAY: u64 = 24 * 60 * 60;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("no connection to {urls}: {why}")]
    Connect { urls: String, why: String },
    #[error("{what}: {why}")]
    Failed { what: String, why: String },
}

pub(super) fn failed(what: &str, why: impl std::fmt::Display) -> ConnectionError {
    ConnectionError::Failed { what: what.to_owned(), why: why.to_string() }
}

/// Who connects, and where.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    pub urls: &'a [String],
    /// The text of a file of credentials.
    pub credentials: &'a str,
    /// Who has signed the server's certificate; whom the machine trusts where it is left out.
    pub authority: Option<&'a Path>,
    /// Where answers come.
    pub inbox: &'a str,
    /// As servers show it.
    pub name: &'a str,
}

impl Access<'_> {
    /// How to connect; never without TLS.
    ///
    /// # Errors
    ///
    /// The credentials are none.
    pub fn options(&self) -> io::Result<ConnectOptions> {
        let mut options = ConnectOptions::with_credentials(self.credentials)?
            .require_tls(true)
            .custom_inbox_prefix(self.inbox)
            .name(self.name)
            .connection_timeout(PATIENCE);
        if let Some(path) = self.authority {
            options = options.add_root_certificates(path.to_owned());
        }
        Ok(options)
    }

    /// Connects, or says at once why not.
    ///
    /// # Errors
    ///
    /// There is nobody, or they do not take the credentials.
    pub async fn connect(&self) -> Result<Client, ConnectionError> {
        let refused = |why: String| ConnectionError::Connect { urls: self.urls.join(", "), why };
        let options = self.options().map_err(|error| refused(error.to_string()))?;
        options.connect(self.urls).await.map_err(|error| refused(error.to_string()))
    }
}

/// Tells servers what the account's token says from now on: whoever is revoked by it is cut off at once.
///
/// # Errors
///
/// No server has taken it.
pub async fn push(client: &Client, token: &str) -> Result<(), ConnectionError> {
    #[derive(Deserialize)]
    struct Answer {
        data: Option<Taken>,
        error: Option<Refused>,
    }
    #[derive(Deserialize)]
    struct Taken {
        code: u16,
    }
    #[derive(Deserialize)]
    struct Refused {
        description: String,
    }
    const WHAT: &str = "the servers have not taken who is revoked";
    let asked = client.request("$SYS.REQ.CLAIMS.UPDATE", Bytes::from(token.to_owned()));
    let answer = asked.await.map_err(|error| failed(WHAT, error))?;
    let answer: Answer =
        serde_json::from_slice(&answer.payload).map_err(|error| failed(WHAT, error))?;
    match answer {
        Answer { error: Some(refused), .. } => Err(failed(WHAT, refused.description)),
        Answer { data: Some(Taken { code: 200 }), .. } => Ok(()),
        _ => Err(failed(WHAT, "an answer that is none")),
    }
}

/// Makes the buckets and streams of a fleet, or has them be as this release wants them. What they hold stays.
///
/// # Errors
///
/// Which one could not be made, and why.
pub async fn prepare(client: &Client, replicas: usize) -> Result<(), ConnectionError> {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(PATIENCE);
    for place in PLACES {
        let config = configuration(place, replicas);
        let made = context.create_or_update_stream(config).await;
        made.map_err(|error| failed(place.name, error))?;
    }
    Ok(())
}

fn configuration(place: Place, replicas: usize) -> stream::Config {
    let Place { name, subjects, each, longest, days, bytes, gives_way } = place;
    let (name, subject) = match subjects {
        Some(subjects) => (name.to_owned(), subjects.to_owned()),
        None => (subject::stream_of(name), subject::key(name, ">")),
    };
    stream::Config {
        name,
        subjects: vec![subject],
        max_messages_per_subject: each,
        max_message_size: longest,
        max_bytes: bytes,
        max_age: Duration::from_secs(days * DAY),
        storage: stream::StorageType::File,
        num_replicas: replicas,
        duplicate_window: ONCE,
        discard: if gives_way { stream::DiscardPolicy::Old } else { stream::DiscardPolicy::New },
        // A header would purge what others have said, and so would an acknowledgement that is sent to the interface of
        // JetStream: nobody removes anything, it goes by its age and number.
        allow_rollup: false,
        deny_purge: true,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    }
}

/// Offers a bundle: first what it says, then that it is there, in place of that change of what is announced.
///
/// # Errors
///
/// It could not be put there.
pub async fn offer(
    client: &Client,
    (fleet, own): (&Name, &Name),
    bundle: &[u8],
    (announcement, over): (&Announcement, u64),
) -> Result<(), ConnectionError> {
    const WHAT: &str = "the bundle is not offered";
    Sealed::read(bundle).map_err(|fault| failed(WHAT, fault))?;
    let said = seal(fleet, own, announcement).map_err(|refused| failed(WHAT, refused))?;
    let mut context = jetstream::new(client.clone());
    context.set_timeout(PATIENCE);
    let key = |key: &str| subject::key(subject::POLICY, key);
    let message = |payload: Vec<u8>| PublishMessage::build().payload(payload.into());
    let puts = [
        (key(&subject::bundle(announcement.version.number)), message(bundle.to_vec())),
        // Not over what somebody else has announced meanwhile.
        (key(subject::ANNOUNCED), message(said.clone()).expected_last_subject_sequence(over)),
    ];
    for (subject, message) in puts {
        let sent = context.send_publish(subject, message).await;
        let taken = sent.map_err(|error| failed(WHAT, error))?.await;
        taken.map_err(|error| match error.kind() {
            PublishErrorKind::WrongLastSequence => {
                failed(WHAT, "somebody has offered something else meanwhile: look, and try again")
            }
            _ => failed(WHAT, error),
        })?;
    }
    // Who misses it asks, sooner or later.
    let told = client.publish(subject::NEWS, said.into()).await;
    told.map_err(|error| failed(WHAT, error))?;
    client.flush().await.map_err(|error| failed(WHAT, error))
}

/// What was kept last under a key, and which change of the bucket that is; 0 where nothing was.
pub struct Last<T> {
    pub value: Option<T>,
    pub revision: u64,
}

/// What is announced, or is to be where whoever drove the last roll-out has not come to that: it is over, and what has
/// become of it holds. Or why nothing else can be offered now.
///
/// # Errors
///
/// It cannot be asked for, or read.
pub async fn announced(
    client: &Client,
    fleet: &Name,
) -> Result<Result<Last<Announcement>, String>, ConnectionError> {
    const WHAT: &str = "what is announced is not known";
    // In this order: what follows from the roll-out is offered only over what was announced before that was looked at.
    let announced: Last<Announcement> = last(client, fleet, subject::ANNOUNCED, WHAT).await?;
    let roll_out: Last<RollOut> = last(client, fleet, subject::ROLL_OUT, WHAT).await?;
    let later = announced.revision > roll_out.revision;
    Ok(match roll_out.value {
        Some(roll_out) if roll_out.is_under_way() => Err(in_the_way(&roll_out)),
        Some(roll_out) => {
            let due = roll_out.due(announced.value.as_ref(), later);
            Ok(Last { value: due.or(announced.value), ..announced })
        }
        None => Ok(announced),
    })
}

/// Why what was just offered may not stay so: somebody has begun or stopped a roll-out meanwhile.
///
/// # Errors
///
/// It cannot be asked for, or read.
pub async fn overtaken(
    client: &Client,
    fleet: &Name,
    offered: &Announcement,
) -> Result<Option<String>, ConnectionError> {
    const WHAT: &str = "whether a roll-out was begun or stopped meanwhile is not known";
    let roll_out: Last<RollOut> = last(client, fleet, subject::ROLL_OUT, WHAT).await?;
    Ok(roll_out.value.and_then(|roll_out| {
        let is_stopped = || roll_out.due(Some(offered), true).is_some();
        if roll_out.is_under_way() {
            Some(in_the_way(&roll_out))
        } else {
            is_stopped().then(|| {
                let number = roll_out.version.number;
                format!("version {number} was stopped meanwhile, and is not withdrawn yet: see to it with `roll-out continue`")
            })
        }
    }))
}

pub(super) fn in_the_way(under_way: &RollOut) -> String {
    format!(
        "the roll-out of version {} is under way: go on with it (`roll-out continue`) or stop it (`roll-out halt`)",
        under_way.version.number
    )
}

/// What was kept last under a key of [`subject::POLICY`], by the word of whoever leads it: another replica may be behind,
/// and what is decided by that would undo what was decided since.
pub(super) async fn last<T: DeserializeOwned>(
    client: &Client,
    fleet: &Name,
    key: &str,
    what: &str,
) -> Result<Last<T>, ConnectionError> {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(PATIENCE);
    let stream = context.get_stream_no_info(subject::stream_of(subject::POLICY)).await;
    let stream = stream.map_err(|error| failed(what, error))?;
    let place = subject::key(subject::POLICY, key);
    let kept = match stream.get_last_raw_message_by_subject(&place).await {
        Ok(kept) => kept,
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
            return Ok(Last { value: None, revision: 0 });
        }
        Err(error) => return Err(failed(what, error)),
    };
    let (_, said) = message::open(&kept.payload, fleet, None).map_err(|why| failed(what, why))?;
    Ok(Last { value: Some(said), revision: kept.sequence })
}
