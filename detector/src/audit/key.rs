//! The key that signs checkpoints: Ed25519 in the format of minisign, as manifests are signed.

use std::{
    fs, io,
    io::{Cursor, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use minisign::{KeyPair, PublicKey as Public, SecretKey, SecretKeyBox};
use minisign_verify::{PublicKey, Signature};

use super::Place;

/// Signs.
pub struct SigningKey {
    secret: SecretKey,
    public: Public,
}

/// Whose signatures count.
#[derive(Clone, Debug, Default)]
pub struct PublicKeys(Vec<PublicKey>);

impl SigningKey {
    /// The key that is kept there. Where there is none it is made, for its owner alone to read. Whether it is new.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is none: it is not replaced then.
    pub fn load_or_make(place: &Place) -> io::Result<(Self, bool)> {
        match Self::load(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(place).map(|key| (key, true))
            }
            loaded => loaded.map(|key| (key, false)),
        }
    }

    /// The key that is kept there.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub fn load(place: &Place) -> io::Result<Self> {
        let text = fs::read_to_string(&place.key).map_err(|why| in_file(&place.key, &why))?;
        let no_key = |why| {
            let text = format!("it is no secret key of minisign without a password ({why})");
            in_file(&place.key, &io::Error::new(io::ErrorKind::InvalidData, text))
        };
        let boxed = SecretKeyBox::from_string(&text).map_err(no_key)?;
        let secret = boxed.into_unencrypted_secret_key().map_err(no_key)?;
        let public = Public::from_secret_key(&secret).map_err(no_key)?;
        let key = Self { secret, public };
        if fs::metadata(&place.public).is_err() {
            key.publish(&place.public)?;
        }
        Ok(key)
    }

    fn make(place: &Place) -> io::Result<Self> {
        let KeyPair { pk: public, sk: secret } =
            KeyPair::generate_unencrypted_keypair().map_err(io::Error::other)?;
        let text = secret
            .to_box(Some("signs the audit of detector"))
            .map_err(io::Error::other)?
            .into_string();
        write(&place.key, 0o600, text.as_bytes())?;
        let key = Self { secret, public };
        key.publish(&place.public)?;
        Ok(key)
    }

    fn publish(&self, path: &Path) -> io::Result<()> {
        let text = self.public.to_box().map_err(io::Error::other)?.into_string();
        write(path, 0o644, text.as_bytes())
    }

    /// The public key, as `minisign -P` takes it.
    pub fn public(&self) -> String {
        self.public.to_base64()
    }

    /// Signs a text: what a `.minisig` file holds. The comment is signed as well.
    pub(super) fn sign(&self, text: &str, comment: &str) -> Result<String, String> {
        let text = Cursor::new(text.as_bytes());
        let note = Some("signature by the audit of detector");
        minisign::sign(Some(&self.public), &self.secret, text, Some(comment), note)
            .map(minisign::SignatureBox::into_string)
            .map_err(|why| format!("cannot sign: {why}"))
    }
}

impl PublicKeys {
    /// The keys of a file, or given as text.
    ///
    /// # Errors
    ///
    /// What is no key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim);
        let keys = lines.filter(|line| !line.is_empty() && !line.starts_with("untrusted comment:"));
        let parse = |line: &str| {
            PublicKey::from_base64(line).map_err(|_| {
                format!(
                    "{line:?} is no public key of minisign; expected a text that begins with RW"
                )
            })
        };
        keys.map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// The key beside the database.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is none.
    pub fn read(place: &Place) -> Result<Self, String> {
        let path = &place.public;
        let text = fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
        Self::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub(super) fn have_signed(&self, text: &str, signature: &str) -> bool {
        let Ok(signature) = Signature::decode(signature) else { return false };
        self.0.iter().any(|key| key.verify(text.as_bytes(), &signature, false).is_ok())
    }
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let written = fs::File::options().write(true).create_new(true).mode(mode).open(&new).and_then(
        |mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)
        },
    );
    written.map_err(|why| in_file(path, &why))
}

fn in_file(path: &Path, why: &io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("{}: {why}", path.display()))
}
