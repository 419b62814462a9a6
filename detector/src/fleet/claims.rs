//! Claims that NATS servers go by: JSON web tokens, signed with Ed25519 keys in the form of nkeys.

use std::collections::BTreeMap;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use detector_core::fleet::subject::Permissions;
use nkeys::KeyPair;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The version of claims that servers have understood since 2.2.
const VERSION: u32 = 2;
const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
const NANOSECONDS: u64 = 1_000_000_000;
/// What stands for "no limit".
const NONE: i64 = -1;

/// What is said of somebody.
pub(super) struct Claims<'a> {
    /// Their public key.
    pub(super) subject: &'a str,
    pub(super) name: &'a str,
    /// Seconds since the epoch.
    pub(super) issued: i64,
    pub(super) nats: Value,
}

#[derive(Serialize)]
struct Token<'a> {
    jti: String,
    iat: i64,
    iss: String,
    name: &'a str,
    sub: &'a str,
    nats: &'a Value,
}

impl Claims<'_> {
    /// The token.
    pub(super) fn sign(&self, issuer: &KeyPair) -> Result<String, nkeys::error::Error> {
        let Self { subject, name, issued, nats } = self;
        let mut token = Token {
            jti: String::new(),
            iat: *issued,
            iss: issuer.public_key(),
            name,
            sub: subject,
            nats,
        };
        let text = |token: &Token<'_>| serde_json::to_vec(token).unwrap_or_default();
        // Its name is what it says.
        token.jti = BASE32_NOPAD.encode(&Sha256::digest(text(&token)));
        let signed = format!(
            "{}.{}",
            BASE64URL_NOPAD.encode(HEADER.as_bytes()),
            BASE64URL_NOPAD.encode(&text(&token))
        );
        let signature = issuer.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
    }
}

/// Whoever signs accounts.
pub(super) fn operator(system_account: &str) -> Value {
    json!({ "type": "operator", "version": VERSION, "system_account": system_account })
}

/// An account: of a fleet with a disk to keep things on, or the servers' own. `revoked` has keys, and the second up to
/// which what was issued to them is void.
pub(super) fn account(keeps: bool, revoked: &BTreeMap<String, i64>) -> Value {
    let kept = if keeps { NONE } else { 0 };
    let mut account = json!({
        "type": "account",
        "version": VERSION,
        "limits": {
            "subs": NONE, "data": NONE, "payload": NONE, "imports": NONE, "exports": NONE, "conn": NONE, "leaf": NONE,
            "wildcards": true, "mem_storage": kept, "disk_storage": kept, "streams": kept, "consumer": kept,
        },
        "default_permissions": { "pub": {}, "sub": {} },
    });
    if !revoked.is_empty() {
        account["revocations"] = json!(revoked);
    }
    account
}

/// Somebody who connects. Without permissions that is the servers' own account, where all is allowed.
pub(super) fn user(permissions: Option<&Permissions>) -> Value {
    let mut user = json!({
        "type": "user", "version": VERSION, "subs": NONE, "data": NONE, "payload": NONE, "pub": {}, "sub": {},
    });
    if let Some(Permissions { publish, subscribe, answers_for }) = permissions {
        user["pub"] = json!({ "allow": publish });
        user["sub"] = json!({ "allow": subscribe });
        if let Some(seconds) = answers_for {
            user["resp"] = json!({ "max": 1, "ttl": seconds * NANOSECONDS });
        }
    }
    user
}

/// A file of credentials, as NATS clients read it.
pub(super) fn credentials(token: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         Whoever has this file is who it names: keep it to yourself.\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}
