use super::{Digest, Timestamp};

/// How this host stands with the fleet that it is of; empty where it is of none, or all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetStanding {
    /// There is no connection.
    pub lost: Option<Told>,
    /// A bundle is offered that is not taken.
    pub refused: Option<RefusedOffer>,
    /// Something came that is not read, such as a message of another version.
    pub unread: Option<Told>,
    /// In what the files in force are not those of the bundle.
    pub drift: Vec<String>,
    /// Since when they are not.
    pub drifted: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub since: Timestamp,
    pub what: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedOffer {
    pub since: Timestamp,
    pub version: u64,
    /// Of what it says.
    pub sha256: Digest,
    pub why: String,
}
