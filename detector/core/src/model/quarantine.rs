use detector_common::{
    addr::Mac,
    quarantine::{
        Cause, NOTE_BYTES, PROVISIONAL, QuarantineKey, QuarantineMode, QuarantineRecord, Scope,
    },
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;

/// What a quarantine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantineTarget {
    Port { ifindex: u32, instance: u32 },
    Mac(#[serde(with = "super::vm::mac_text")] Mac),
    Vm(Uuid),
}

/// A deny entry, in force until it is lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub target: QuarantineTarget,
    pub since: Timestamp,
    #[serde(with = "cause_text")]
    pub cause: Cause,
    #[serde(with = "mode_text")]
    pub mode: QuarantineMode,
    /// By verdict while enforcing was provisional: it goes when that is not confirmed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// User id of the person, or of the daemon.
    pub uid: u32,
    /// Why, for people: at most [`NOTE_BYTES`] bytes, without NUL. [`Quarantine::new`] sees to it,
    /// so that a quarantine read back from the kernel is equal to the one that was put there.
    pub note: String,
}

impl Quarantine {
    /// A quarantine in which everything is dropped, and whose note is cut, visibly, to what the record
    /// holds.
    pub fn new(
        target: QuarantineTarget,
        since: Timestamp,
        cause: Cause,
        uid: u32,
        note: &str,
    ) -> Self {
        let note: String = note.chars().filter(|c| *c != '\0').collect();
        let note = match cut(&note, NOTE_BYTES) {
            whole if whole.len() == note.len() => note,
            _ => format!("{}…", cut(&note, NOTE_BYTES - '…'.len_utf8()).trim_end()),
        };
        Self { target, since, cause, mode: QuarantineMode::Drop, provisional: false, uid, note }
    }

    /// The same in another mode.
    pub fn in_mode(self, mode: QuarantineMode) -> Self {
        Self { mode, ..self }
    }

    /// The same, to be confirmed with the mode.
    pub fn on_trial(self, provisional: bool) -> Self {
        Self { provisional, ..self }
    }

    /// The entry's value in the `QUARANTINE` map.
    pub fn record(&self) -> QuarantineRecord {
        let mut note = [0; NOTE_BYTES];
        let text = cut(&self.note, NOTE_BYTES).as_bytes();
        note[..text.len()].copy_from_slice(text);
        QuarantineRecord {
            since: self.since.0.saturating_mul(NANOS_PER_MILLI),
            cause: self.cause as u16 | if self.provisional { PROVISIONAL } else { 0 },
            mode: self.mode as u16,
            uid: self.uid,
            note,
        }
    }

    /// A quarantine from its entry. A cause that is unknown is read as a person's: the stricter of
    /// the two, since it holds in every mode; a mode that is unknown is read as the stricter one. What is
    /// no UTF-8 in the note is replaced.
    pub fn from_record(target: QuarantineTarget, record: &QuarantineRecord) -> Self {
        let end = record.note.iter().position(|byte| *byte == 0).unwrap_or(NOTE_BYTES);
        let by_verdict = record.cause & !PROVISIONAL == Cause::Verdict as u16;
        let cause = if by_verdict { Cause::Verdict } else { Cause::Operator };
        let provisional = by_verdict && record.cause & PROVISIONAL != 0;
        let note = String::from_utf8_lossy(&record.note[..end]);
        let mode = if record.mode == QuarantineMode::Sandbox as u16 {
            QuarantineMode::Sandbox
        } else {
            QuarantineMode::Drop
        };
        let since = Timestamp(record.since / NANOS_PER_MILLI);
        Self::new(target, since, cause, record.uid, &note).in_mode(mode).on_trial(provisional)
    }
}

impl From<QuarantineTarget> for QuarantineKey {
    fn from(target: QuarantineTarget) -> Self {
        match target {
            QuarantineTarget::Port { ifindex, instance } => Self::port(ifindex, instance),
            QuarantineTarget::Mac(mac) => Self::mac(mac),
            QuarantineTarget::Vm(uuid) => Self::vm(uuid.into_bytes()),
        }
    }
}

/// Why a key of the `QUARANTINE` map names no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quarantine of unknown scope {0}: expected 1 (port), 2 (MAC) or 3 (VM)")]
pub struct UnknownScope(pub u32);

impl TryFrom<QuarantineKey> for QuarantineTarget {
    type Error = UnknownScope;

    fn try_from(key: QuarantineKey) -> Result<Self, UnknownScope> {
        const PORT: u32 = Scope::Port as u32;
        const MAC: u32 = Scope::Mac as u32;
        const VM: u32 = Scope::Vm as u32;
        let [a, b, c, d, e, f, g, h, ..] = key.id;
        match key.scope {
            PORT => Ok(Self::Port {
                ifindex: u32::from_le_bytes([a, b, c, d]),
                instance: u32::from_le_bytes([e, f, g, h]),
            }),
            MAC => Ok(Self::Mac(Mac([a, b, c, d, e, f]))),
            VM => Ok(Self::Vm(Uuid::from_bytes(key.id))),
            other => Err(UnknownScope(other)),
        }
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;

/// The longest start of `note` of at most so many bytes that ends at a character.
fn cut(note: &str, bytes: usize) -> &str {
    &note[..note.floor_char_boundary(bytes)]
}

mod cause_text {
    use detector_common::quarantine::Cause;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(cause: &Cause, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match cause {
            Cause::Verdict => "verdict",
            Cause::Operator => "operator",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Cause, D::Error> {
        match String::deserialize(from)?.as_str() {
            "verdict" => Ok(Cause::Verdict),
            "operator" => Ok(Cause::Operator),
            other => Err(D::Error::unknown_variant(other, &["verdict", "operator"])),
        }
    }
}

mod mode_text {
    use detector_common::quarantine::QuarantineMode;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        mode: &QuarantineMode,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(match mode {
            QuarantineMode::Drop => "drop",
            QuarantineMode::Sandbox => "sandbox",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<QuarantineMode, D::Error> {
        match String::deserialize(from)?.as_str() {
            "drop" => Ok(QuarantineMode::Drop),
            "sandbox" => Ok(QuarantineMode::Sandbox),
            other => Err(D::Error::unknown_variant(other, &["drop", "sandbox"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: [QuarantineTarget; 3] = [
        QuarantineTarget::Port { ifindex: 7, instance: 0x0102_0304 },
        QuarantineTarget::Mac(Mac([0x52, 0x54, 0, 1, 2, 3])),
        QuarantineTarget::Vm(Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10)),
    ];

    #[test]
    fn keys_round_trip() {
        for target in TARGETS {
            assert_eq!(QuarantineKey::from(target).try_into(), Ok(target));
        }
        let unknown = QuarantineKey { scope: 9, id: [0; 16] };
        assert_eq!(QuarantineTarget::try_from(unknown), Err(UnknownScope(9)));
    }

    #[test]
    fn records_round_trip_and_notes_are_cut_at_a_character() {
        let long = "ä".repeat(NOTE_BYTES);
        let odd = format!("x{long}");
        let cases: &[(&str, usize)] = &[
            ("", 0),
            ("why", 3),
            (&"x".repeat(NOTE_BYTES), NOTE_BYTES),
            (&"x".repeat(NOTE_BYTES + 1), NOTE_BYTES),
            (&long, NOTE_BYTES - 1),
            (&odd, NOTE_BYTES),
            ("a\0b", 2),
        ];
        for (note, length) in cases {
            for cause in [Cause::Verdict, Cause::Operator] {
                let quarantine =
                    Quarantine::new(TARGETS[0], Timestamp(1_763_900_000_123), cause, 1000, note);
                assert_eq!(quarantine.note.len(), *length, "{note:?}");
                assert_eq!(quarantine.note.ends_with('…'), note.len() > NOTE_BYTES, "{note:?}");
                let quarantine = match cause {
                    Cause::Verdict => quarantine.on_trial(note.len() % 2 == 0),
                    Cause::Operator => quarantine.in_mode(QuarantineMode::Sandbox),
                };
                let back = Quarantine::from_record(TARGETS[0], &quarantine.record());
                assert_eq!(back, quarantine);
            }
        }
    }

    #[test]
    fn a_damaged_record_still_quarantines() {
        let record =
            QuarantineRecord { since: u64::MAX, cause: 7, mode: 7, uid: 0, note: [0xff; 112] };
        let read = Quarantine::from_record(TARGETS[2], &record);
        assert_eq!((read.cause, read.mode), (Cause::Operator, QuarantineMode::Drop));
        assert!(read.note.len() <= NOTE_BYTES);
    }
}
