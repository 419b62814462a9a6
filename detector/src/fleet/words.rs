//! What the daemon and its process that speaks to the fleet tell each other, in lines of JSON.
//!
//! The daemon says what is to be said and where, by names that stand for this host's own subjects: it cannot name
//! another. What came from the fleet crosses as it was read, bounded; nothing of it is believed before the daemon has
//! judged it.

use detector_core::fleet::{
    Name,
    message::{Announcement, Command},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where something is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    Host,
    /// A page of VMs.
    Vms(u32),
    /// A page of open findings.
    Open(u32),
    Finding,
    Audit,
}

/// What the daemon wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Want {
    /// Say this, and say whether it is kept there.
    Put {
        ticket: u64,
        place: Place,
        message: String,
        /// Names it, so that it is kept once.
        id: Option<Uuid>,
    },
    /// Answer a command.
    Answer { ticket: u64, message: String },
    /// Ask for a bundle.
    Fetch { version: u64 },
}

/// What has come of it, and what the fleet says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum News {
    Linked,
    Lost(String),
    Done {
        ticket: u64,
        result: Result<(), String>,
    },
    Command {
        ticket: u64,
        from: Name,
        command: Command,
    },
    Announced(Announcement),
    Bundle {
        version: u64,
        /// The file, or why it is not to be had.
        file: Result<String, String>,
    },
    /// Something came that is not read, and why.
    Unread(String),
}
