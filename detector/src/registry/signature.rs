//! Signatures of manifests, in the format of minisign: `NAME.toml.minisig` beside `NAME.toml`.

use std::path::{Path, PathBuf};

use minisign_verify::{Error, PublicKey, Signature};

use crate::config::text::{ReadError, read_text};

/// A signature has four lines, of which a person chooses two.
const MAX_BYTES: u64 = 64 << 10;

/// Whose signatures count.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: Vec<(String, PublicKey)>,
    required: bool,
}

impl Trust {
    /// The keys as `minisign -G` prints them. Where signatures are required, a manifest without one is
    /// refused; one that is wrong is refused in any case, once there are keys.
    ///
    /// # Errors
    ///
    /// What is wrong with the first key that is none.
    pub fn new(keys: &[String], required: bool) -> Result<Self, String> {
        let parse = |text: &String| -> Result<(String, PublicKey), String> {
            let key = PublicKey::from_base64(text.trim()).map_err(|_| {
                format!(
                    "{text:?} is no public key of minisign; expected the second line of its .pub \
                     file, which begins with RW"
                )
            })?;
            Ok((text.trim().to_owned(), key))
        };
        Ok(Self { keys: keys.iter().map(parse).collect::<Result<_, _>>()?, required })
    }

    pub(super) fn is_required(&self) -> bool {
        self.required
    }

    /// The key by which the text of a manifest is signed, or why it is not to be used.
    pub(super) fn signer(&self, manifest: &Path, text: &str) -> Result<Option<String>, String> {
        if self.keys.is_empty() && !self.required {
            return Ok(None);
        }
        let place = place(manifest);
        let signature = match read_text(&place, MAX_BYTES) {
            Ok(signature) => signature,
            Err(ReadError::Absent) if !self.required => return Ok(None),
            Err(ReadError::Absent) => {
                return Err(format!(
                    "it is not signed, and registry.require_signature is set; expected {place:?}, by \
                     `minisign -S -m` with a key of registry.trusted_keys"
                ));
            }
            Err(why) => return Err(format!("its signature {place:?} cannot be read: {why}")),
        };
        self.verify(text.as_bytes(), &signature).map(Some).map_err(|wrong| match wrong {
            Wrong::NoSignature => format!(
                "{place:?} is no signature of minisign; sign the manifest (`minisign -S -m`)"
            ),
            Wrong::Stranger => format!(
                "its signature is by a key that is not trusted; expected one of registry.trusted_keys \
                 ({} known)",
                self.keys.len()
            ),
            Wrong::OtherText => "its signature is not of what it says: it has been changed since, or \
                                 the signature is another file's; sign it again (`minisign -S -m`)"
                .to_owned(),
        })
    }

    /// The key by which a text is signed.
    pub(crate) fn verify(&self, text: &[u8], signature: &str) -> Result<String, Wrong> {
        let signature = Signature::decode(signature).map_err(|_| Wrong::NoSignature)?;
        let mut wrong = Wrong::Stranger;
        for (name, key) in &self.keys {
            // Older releases of minisign sign the text itself in place of its hash.
            match key.verify(text, &signature, true) {
                Ok(()) => return Ok(name.clone()),
                Err(Error::UnexpectedKeyId) => {}
                Err(_) => wrong = Wrong::OtherText,
            }
        }
        Err(wrong)
    }
}

/// What is wrong with a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("it has no signature of minisign; sign it (`minisign -S -m`)")]
    NoSignature,
    #[error("its signature is by a key that is not trusted")]
    Stranger,
    #[error(
        "its signature is not of what it says: it has been changed since, or the signature is another's"
    )]
    OtherText,
}

/// Where the signature of a manifest is.
fn place(manifest: &Path) -> PathBuf {
    let mut name = manifest.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

#[cfg(test)]
mod tests;
