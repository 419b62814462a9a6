//! The directory in which the keys of a fleet are: who has it decides who is of the fleet.
//!
//! Nothing in it is needed while a fleet runs but what lies in `server`. It belongs on no host of the fleet.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use detector_core::fleet::{Name, message::Time, subject::Holder};
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};

use super::{certificate::Certificates, claims, claims::Claims, server::Server};
use crate::{
    config::text::read_text,
    registry::edit::{create, overwrite},
};

/// Version of the record.
const VERSION: u32 = 1;
/// More than any fleet has.
const MAX_BYTES: u64 = 64 << 20;

/// What went wrong with a fleet's keys.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{path}: {source}", path = .0.display(), source = .1)]
    File(PathBuf, io::Error),
    #[error("{path}: {why}", path = .0.display(), why = .1)]
    Unreadable(PathBuf, String),
    #[error("there is a fleet in {path} already; expected a directory without one", path = .0.display())]
    Exists(PathBuf),
    #[error("{0} is enrolled already, since {1}; to give it new credentials, revoke it first")]
    Enrolled(String, Time),
    #[error("{0} is not enrolled; `detector fleet list` shows who is")]
    Unknown(String),
    #[error("a key cannot be used: {0}")]
    Key(#[from] nkeys::error::Error),
    #[error("a certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

type Result<T> = std::result::Result<T, AuthorityError>;

/// What a fleet is made by.
#[derive(Clone, Debug)]
pub struct Found {
    pub fleet: Name,
    /// Where hosts find NATS.
    pub urls: Vec<String>,
    /// What the server's certificate is for: names and addresses.
    pub names: Vec<String>,
    /// Where the server listens.
    pub listen: String,
    /// Where the server's files will lie on its machine; where they are made when it is left out.
    pub server_directory: Option<PathBuf>,
}

/// A fleet's keys, and who has been given credentials.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    record: Record,
    /// Whoever else changes something waits.
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    fleet: Name,
    urls: Vec<String>,
    account: String,
    system_account: String,
    members: Vec<Member>,
    /// Keys, and up to which second what was issued to them is void.
    revoked: BTreeMap<String, i64>,
}

/// Somebody who has credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `host` or `monitor`.
    pub kind: String,
    pub name: Name,
    pub key: String,
    pub enrolled: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Time>,
}

impl Authority {
    /// Makes a fleet in a directory: keys, certificates, and what its server needs.
    ///
    /// # Errors
    ///
    /// There is one, or something cannot be written.
    pub fn found(directory: &Path, found: &Found, now: Time) -> Result<Self> {
        for inner in ["", "keys", "credentials", "server", "server/accounts"] {
            make_directory(&directory.join(inner))?;
        }
        // With links resolved: the server finds its files from anywhere.
        let directory = &fs::canonicalize(directory)
            .map_err(|error| AuthorityError::File(directory.to_owned(), error))?;
        let lock = lock(directory)?;
        if directory.join("fleet.json").exists() {
            return Err(AuthorityError::Exists(directory.clone()));
        }
        let (operator, account, system) =
            (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
        let record = Record {
            version: VERSION,
            fleet: found.fleet.clone(),
            urls: found.urls.clone(),
            account: account.public_key(),
            system_account: system.public_key(),
            members: Vec::new(),
            revoked: BTreeMap::new(),
        };
        let own = Self { directory: directory.clone(), record, _lock: lock };
        let keys = [("operator", &operator), ("account", &account), ("system-account", &system)];
        for (name, key) in keys {
            own.write(&format!("keys/{name}.seed"), &key.seed()?)?;
        }
        let issued = now.as_second();
        let say = |subject: &str, name: &str, nats| {
            Claims { subject, name, issued, nats }.sign(&operator)
        };
        let system_account =
            say(&system.public_key(), "SYS", claims::account(false, &BTreeMap::new()))?;
        let signer = say(
            &operator.public_key(),
            found.fleet.as_str(),
            claims::operator(&own.record.system_account),
        )?;
        own.write(&format!("server/accounts/{}.jwt", own.record.system_account), &system_account)?;
        own.told(&own.account(now)?)?;
        own.issue(&system, "server", None, "system", now)?;
        own.issue(&account, "steward", Some(&Holder::Steward), "steward", now)?;

        let year = i32::from(jiff::tz::TimeZone::UTC.to_datetime(now).year());
        let certificates = Certificates::make(found.fleet.as_str(), &found.names, year)?;
        own.write("keys/ca.key", &certificates.authority_key)?;
        own.publish("ca.pem", &certificates.authority)?;
        own.write("server/server.pem", &certificates.server)?;
        own.write("server/server.key", &certificates.server_key)?;
        let server_directory = directory.join("server");
        let server = Server {
            fleet: found.fleet.as_str(),
            listen: &found.listen,
            directory: found.server_directory.as_deref().unwrap_or(&server_directory),
            operator: &signer,
            system_account: &own.record.system_account,
        };
        own.write("server/nats-server.conf", &server.text())?;
        // Last: with it the fleet is there.
        own.save()?;
        Ok(own)
    }

    /// Opens the directory of a fleet, for as long as it is used by nobody else.
    ///
    /// # Errors
    ///
    /// There is none, or one of another release.
    pub fn open(directory: &Path) -> Result<Self> {
        let directory = fs::canonicalize(directory)
            .map_err(|error| AuthorityError::File(directory.to_owned(), error))?;
        let lock = lock(&directory)?;
        let path = directory.join("fleet.json");
        let no = |why: String| AuthorityError::Unreadable(path.clone(), why);
        let text = read_text(&path, MAX_BYTES).map_err(|error| no(error.to_string()))?;
        let record: Record = serde_json::from_str(&text).map_err(|error| no(error.to_string()))?;
        if record.version != VERSION {
            return Err(no(format!("it has version {}; expected {VERSION}", record.version)));
        }
        Ok(Self { directory, record, _lock: lock })
    }

    /// Gives somebody credentials, and says in which file they are. No server is told: the token says it all.
    ///
    /// # Errors
    ///
    /// They have some.
    pub fn enrol(&mut self, holder: &Holder, now: Time) -> Result<PathBuf> {
        let Some((kind, name)) = kind(holder) else {
            return Err(AuthorityError::Unknown(holder.title()));
        };
        if let Some(known) = self.current(kind, name) {
            return Err(AuthorityError::Enrolled(holder.title(), known.enrolled));
        }
        let account = self.key("account")?;
        let file = format!("{kind}-{name}");
        let (key, path) = self.issue(&account, &holder.title(), Some(holder), &file, now)?;
        self.record.members.push(Member {
            kind: kind.to_owned(),
            name: name.clone(),
            key,
            enrolled: now,
            revoked: None,
        });
        self.save()?;
        Ok(path)
    }

    /// Makes the credentials of somebody void. It holds once servers know the account's new token
    /// ([`Self::account`]).
    ///
    /// # Errors
    ///
    /// They have none.
    pub fn revoke(&mut self, holder: &Holder, now: Time) -> Result<()> {
        let unknown = || AuthorityError::Unknown(holder.title());
        let (kind, name) = kind(holder).ok_or_else(unknown)?;
        let of = |member: &&mut Member| member.kind == kind && member.name == *name;
        let mut known = self.record.members.iter_mut().filter(of);
        let member = known.find(|member| member.revoked.is_none()).ok_or_else(unknown)?;
        member.revoked = Some(now);
        let key = member.key.clone();
        self.record.revoked.insert(key, now.as_second());
        self.save()?;
        // Nobody can use it any more.
        let _ = fs::remove_file(self.path(&format!("credentials/{kind}-{name}.creds")));
        Ok(())
    }

    /// Keeps the account's token with the server's files, once running servers have taken it: one that finds it there
    /// already takes what it is told for no news.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn told(&self, token: &str) -> Result<()> {
        self.write(&format!("server/accounts/{}.jwt", self.record.account), token)
    }

    /// The account's token, as servers are to know it from now on.
    ///
    /// # Errors
    ///
    /// The operator's key cannot be read.
    pub fn account(&self, now: Time) -> Result<String> {
        let nats = claims::account(true, &self.record.revoked);
        let (subject, name) = (self.record.account.as_str(), self.record.fleet.as_str());
        let claims = Claims { subject, name, issued: now.as_second(), nats };
        Ok(claims.sign(&self.key("operator")?)?)
    }

    pub fn fleet(&self) -> &Name {
        &self.record.fleet
    }

    pub fn urls(&self) -> &[String] {
        &self.record.urls
    }

    pub fn members(&self) -> &[Member] {
        &self.record.members
    }

    /// Where the authority's certificate is, which hosts are given.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Credentials of the servers' own account, by which accounts are told to servers.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn system_credentials(&self) -> Result<String> {
        self.read("credentials/system.creds")
    }

    /// Credentials by which buckets and streams are made.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn steward_credentials(&self) -> Result<String> {
        self.read("credentials/steward.creds")
    }

    fn current(&self, kind: &str, name: &Name) -> Option<&Member> {
        let of = |member: &&Member| member.kind == kind && member.name == *name;
        self.record.members.iter().filter(of).find(|member| member.revoked.is_none())
    }

    /// Makes a key and writes credentials for it; without a holder they may do anything in the account.
    fn issue(
        &self,
        account: &KeyPair,
        title: &str,
        holder: Option<&Holder>,
        file: &str,
        now: Time,
    ) -> Result<(String, PathBuf)> {
        let key = KeyPair::new_user();
        let permissions = holder.map(Holder::permissions);
        let (subject, nats) = (key.public_key(), claims::user(permissions.as_ref()));
        let claims = Claims { subject: &subject, name: title, issued: now.as_second(), nats };
        let text = claims::credentials(&claims.sign(account)?, &key.seed()?);
        let path = format!("credentials/{file}.creds");
        self.write(&path, &text)?;
        Ok((subject, self.path(&path)))
    }

    fn key(&self, name: &str) -> Result<KeyPair> {
        Ok(KeyPair::from_seed(self.read(&format!("keys/{name}.seed"))?.trim())?)
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.record).map_err(|error| {
            AuthorityError::Unreadable(self.path("fleet.json"), error.to_string())
        })?;
        self.write("fleet.json", &text)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        read_text(&path, MAX_BYTES)
            .map_err(|error| AuthorityError::Unreadable(path, error.to_string()))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        overwrite(&path, text, 0o600).map_err(|error| AuthorityError::File(path, error))
    }

    /// For everybody to read.
    fn publish(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        create(&path, text).map_err(|error| AuthorityError::File(path, error))
    }
}

fn kind(holder: &Holder) -> Option<(&'static str, &Name)> {
    match holder {
        Holder::Host(name) => Some(("host", name)),
        Holder::Monitor(name) => Some(("monitor", name)),
        Holder::Steward => None,
    }
}

fn make_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| AuthorityError::File(path.to_owned(), error))
}

fn lock(directory: &Path) -> Result<File> {
    let failed = |error| AuthorityError::File(directory.to_owned(), error);
    let file = File::open(directory).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}
