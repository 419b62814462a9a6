use detector_common::{addr::Mac, quarantine::Cause};
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
    /// User id of the person, or of the daemon.
    pub uid: u32,
    pub note: String,
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
