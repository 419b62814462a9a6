//! Webhooks: one OCSF event a request, signed as the Standard Webhooks specification says, so that the
//! libraries for it verify it.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use super::{Delivered, Failure, blocking, http, secret};
use crate::{
    alert::{host::Origin, notice::Notice, ocsf},
    config::alerts,
};

#[derive(Debug)]
pub(super) struct Webhook {
    keys: alerts::Webhook,
    origin: Arc<Origin>,
}

impl Webhook {
    pub(super) fn new(keys: &alerts::Webhook, origin: &Arc<Origin>) -> Self {
        Self { keys: keys.clone(), origin: Arc::clone(origin) }
    }

    pub(super) fn target(&self) -> String {
        self.keys.url.to_string()
    }

    pub(super) async fn deliver(&self, notices: &[Notice]) -> Delivered {
        for notice in notices {
            self.post(notice).await?;
        }
        Ok(())
    }

    async fn post(&self, notice: &Notice) -> Delivered {
        let (key, authorization) = (self.keys.secret_file.clone(), self.authorization().await?);
        let key = blocking(move || secret::read(&key)).await?;
        let body = ocsf::line(notice, &self.origin).into_bytes();
        let id = notice.id.to_string();
        // A retry is signed anew, so that the receiver can refuse what is old.
        let timestamp = Timestamp::now().as_second().to_string();
        let signature = sign(&key, &id, &timestamp, &body)?;
        let mut headers = vec![
            ("webhook-id", id),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
        ];
        headers.extend(authorization.clone().map(|value| ("authorization", value)));
        let Self { keys: alerts::Webhook { url, tls, .. }, .. } = self;
        http::post(url, &url.path, tls, headers, authorization.as_deref(), body).await
    }

    async fn authorization(&self) -> Result<Option<String>, Failure> {
        let Some(path) = self.keys.authorization_file.clone() else { return Ok(None) };
        blocking(move || secret::read(&path)).await.map(Some)
    }
}

/// `v1,` and the signature of identifier, time and body. A secret that begins with `whsec_` goes on in
/// base64; any other one is taken as it is.
fn sign(key: &str, id: &str, timestamp: &str, body: &[u8]) -> Result<String, Failure> {
    let key = match key.strip_prefix("whsec_") {
        Some(encoded) => BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| Failure::Later("secret_file: expected base64 after whsec_".to_owned()))?,
        None => key.as_bytes().to_vec(),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)
        .map_err(|error| Failure::later("secret_file", error))?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Ok(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example that the libraries of Standard Webhooks are tested with.
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signed =
            sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b"{\"test\": 2432232314}");
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(sign("whsec_?", "", "", b"").is_err());
        assert_ne!(sign("a", "i", "1", b"x"), sign("a", "i", "2", b"x"), "the time is signed");
    }
}
