//! The record of every quarantine: sticky, pinned, readable with the daemon dead.

use crate::{addr::Mac, layout};

/// What a quarantine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Scope {
    /// One port instance: the key holds ifindex and instance, little-endian.
    Port = 1,
    /// A MAC, wherever it appears: the key's first six bytes.
    Mac = 2,
    /// A VM: the key holds its UUID.
    Vm = 3,
}

/// Key of `QUARANTINE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct QuarantineKey {
    /// A [`Scope`] code.
    pub scope: u32,
    pub id: [u8; 16],
}

layout!(QuarantineKey, size 20, scope @ 0, id @ 4);

impl QuarantineKey {
    pub fn port(ifindex: u32, instance: u32) -> Self {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&ifindex.to_le_bytes());
        id[4..8].copy_from_slice(&instance.to_le_bytes());
        Self { scope: Scope::Port as u32, id }
    }

    pub fn mac(mac: Mac) -> Self {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&mac.0);
        Self { scope: Scope::Mac as u32, id }
    }

    pub const fn vm(uuid: [u8; 16]) -> Self {
        Self { scope: Scope::Vm as u32, id: uuid }
    }
}

/// Who imposed a quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Cause {
    /// The verdict on the VM.
    Verdict = 1,
    /// A person.
    Operator = 2,
}

/// Added to [`Cause::Verdict`] in [`QuarantineRecord::cause`]: enforcing was provisional, and where it is not
/// confirmed the quarantine goes with it.
pub const PROVISIONAL: u16 = 1 << 8;

/// What becomes of a quarantined port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum QuarantineMode {
    /// It neither sends nor receives.
    #[default]
    Drop = 0,
    /// It speaks with the sandbox, and with nobody else.
    Sandbox = 1,
}

/// Length of [`QuarantineRecord::note`] in bytes.
pub const NOTE_BYTES: usize = 112;

/// Value of `QUARANTINE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct QuarantineRecord {
    /// Nanoseconds since the Unix epoch.
    pub since: u64,
    /// A [`Cause`] code, with [`PROVISIONAL`] or without.
    pub cause: u16,
    /// A [`QuarantineMode`] code.
    pub mode: u16,
    /// User id of the person, or of the daemon.
    pub uid: u32,
    /// Why, for people: UTF-8, cut at a character, padded with zero bytes.
    pub note: [u8; NOTE_BYTES],
}

layout!(QuarantineRecord, size 128, since @ 0, cause @ 8, mode @ 10, uid @ 12, note @ 16);
