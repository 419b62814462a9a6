//! Who may log in: a file with a line for each account, `NAME:ROLE:HASH`, where the hash is Argon2's.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash};
use detector_core::api::Role;
use uuid::Uuid;

/// The shortest password in characters.
pub const SHORTEST: usize = 12;
/// The longest in bytes: hashing takes longer the longer it is.
pub const LONGEST: usize = 1024;
const LONGEST_NAME: usize = 64;
const LONGEST_FILE: u64 = 1 << 20;

/// Why there is no such account.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("{path}: {why}")]
    File { path: PathBuf, why: io::Error },
    #[error(
        "{path}, line {line}: expected NAME:ROLE:HASH, as `detector-monitor account add` writes it"
    )]
    Line { path: PathBuf, line: usize },
    #[error(
        "{0:?} is no name of an account; expected 1 to {LONGEST_NAME} letters, digits and any of . _ - @"
    )]
    Name(String),
    #[error("a password has at least {SHORTEST} characters and at most {LONGEST} bytes")]
    Password,
    #[error("there is no account {0}")]
    Unknown(String),
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

/// Of a password that nobody knows.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let hash = Argon2::default().hash_password(Uuid::new_v4().as_bytes());
    hash.map(|hash: PasswordHash| hash.to_string()).unwrap_or_default()
});

#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    role: Role,
    /// `None` of somebody whom a proxy vouches for.
    hash: Option<String>,
}

/// The accounts of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts(BTreeMap<String, Account>);

impl Accounts {
    /// Reads them; a file that is not there has none.
    ///
    /// # Errors
    ///
    /// It cannot be read, or says something else: then nobody is let in by it.
    pub fn read(path: &Path) -> Result<Self, AccountError> {
        let failed = |why| AccountError::File { path: path.to_owned(), why };
        let text = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
            Ok(found) if found.len() > LONGEST_FILE => {
                return Err(failed(io::Error::other("it is longer than 1 MiB")));
            }
            Ok(_) => fs::read_to_string(path).map_err(failed)?,
        };
        let mut accounts = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let account = Self::line(line)
                .ok_or_else(|| AccountError::Line { path: path.to_owned(), line: number + 1 })?;
            accounts.insert(account.0, account.1);
        }
        Ok(Self(accounts))
    }

    fn line(line: &str) -> Option<(String, Account)> {
        let mut fields = line.splitn(3, ':');
        let (name, role, hash) = (fields.next()?, fields.next()?, fields.next()?);
        let role = serde_json::from_value(role.into()).ok()?;
        let hash = match hash {
            "" => None,
            hash => Some(PasswordHash::new(hash).ok()?.to_string()),
        };
        is_name(name).then(|| (name.to_owned(), Account { role, hash }))
    }

    /// Adds an account, or gives it another role or password. Without a password only a proxy can vouch for it.
    ///
    /// # Errors
    ///
    /// Name or password are none.
    pub fn put(
        &mut self,
        name: &str,
        role: Role,
        password: Option<&str>,
    ) -> Result<(), AccountError> {
        if !is_name(name) {
            return Err(AccountError::Name(name.chars().take(2 * LONGEST_NAME).collect()));
        }
        let hash = match password {
            None => None,
            Some(password) if password.chars().count() < SHORTEST || password.len() > LONGEST => {
                return Err(AccountError::Password);
            }
            Some(password) => {
                let hash: PasswordHash = Argon2::default()
                    .hash_password(password.as_bytes())
                    .map_err(|error| AccountError::Hash(error.to_string()))?;
                Some(hash.to_string())
            }
        };
        self.0.insert(name.to_owned(), Account { role, hash });
        Ok(())
    }

    /// # Errors
    ///
    /// There is none of that name.
    pub fn remove(&mut self, name: &str) -> Result<(), AccountError> {
        self.0.remove(name).map(drop).ok_or_else(|| AccountError::Unknown(name.to_owned()))
    }

    /// Writes them, whole or not at all, for the owner to read.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), AccountError> {
        use std::io::Write;
        let failed = |why| AccountError::File { path: path.to_owned(), why };
        let next = path.with_extension("next");
        let lines = self.0.iter().map(|(name, account)| {
            format!(
                "{name}:{}:{}\n",
                account.role.as_str(),
                account.hash.as_deref().unwrap_or_default()
            )
        });
        let text: String = lines.collect();
        // Whoever may read the one before may read the next.
        let kept = fs::metadata(path).ok();
        let _ = fs::remove_file(&next);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&next)
            .map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        if let Some(kept) = kept {
            use std::os::unix::fs::MetadataExt;
            std::os::unix::fs::fchown(&file, Some(kept.uid()), Some(kept.gid())).map_err(failed)?;
            file.set_permissions(kept.permissions()).map_err(failed)?;
        }
        fs::rename(&next, path).map_err(failed)
    }

    pub fn list(&self) -> impl Iterator<Item = (&str, Role, bool)> {
        self.0.iter().map(|(name, one)| (name.as_str(), one.role, one.hash.is_some()))
    }

    /// The role of an account, whoever it is that vouches for the person.
    pub fn role(&self, name: &str) -> Option<Role> {
        Some(self.0.get(name)?.role)
    }

    /// The role of who knows the password. It takes as long for a name that nobody has. Blocks.
    pub fn verify(&self, name: &str, password: &str) -> Option<Role> {
        if password.len() > LONGEST {
            return None;
        }
        let account = self.0.get(name);
        let hash = account.and_then(|account| account.hash.as_deref());
        let parsed = PasswordHash::new(hash.unwrap_or(&NOBODY)).ok()?;
        let matches = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
        account.filter(|_| matches && hash.is_some()).map(|account| account.role)
    }
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_account_is_kept_and_verified() {
        let directory =
            std::env::temp_dir().join(format!("detector-accounts-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("accounts");
        let password = "a long enough one";
        let mut accounts = Accounts::read(&path).unwrap();
        accounts.put("alice", Role::Operate, Some(password)).unwrap();
        accounts.put("bob", Role::View, None).unwrap();
        accounts.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Accounts::read(&path).unwrap();
        assert_eq!(read, accounts);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(password) && text.contains("$argon2id$"), "{text}");
        for (name, password, expect) in [
            ("alice", password, Some(Role::Operate)),
            ("alice", "a long enough two", None),
            ("alice", "", None),
            ("Alice", password, None),
            ("bob", "", None),
            ("bob", password, None),
            ("carol", password, None),
            ("carol", "nobody", None),
        ] {
            assert_eq!(read.verify(name, password), expect, "{name} {password}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_is_no_account() {
        let mut accounts = Accounts::default();
        for name in ["", "a:b", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(
                matches!(accounts.put(name, Role::View, None), Err(AccountError::Name(_))),
                "{name}"
            );
        }
        for password in ["short", &"x".repeat(LONGEST + 1)] {
            let put = accounts.put("a", Role::View, Some(password));
            assert!(matches!(put, Err(AccountError::Password)));
        }
        for line in
            ["", "a", "a:view", "a:root:", "a:view:x", "a:view:$argon2id$x", ":view:", "a b:view:"]
        {
            assert_eq!(Accounts::line(line), None, "{line}");
        }
    }
}
