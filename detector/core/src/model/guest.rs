use serde::{Deserialize, Serialize};

/// What an agent inside of a guest says of it. The guest chooses every word: it may lie, and its silence
/// is no statement. `None` is "it does not say".
///
/// Texts are bounded, and raw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestClaims {
    /// `debian`, `mswindows`: `ID` of os-release(5).
    pub os_id: Option<String>,
    /// `12`: `VERSION_ID` of os-release(5).
    pub os_version: Option<String>,
    /// Release of its kernel.
    pub kernel: Option<String>,
    pub hostname: Option<String>,
    /// Names of those who are logged in, each once, sorted; at most [`GuestClaims::MOST_USERS`].
    pub users: Option<Vec<String>>,
}

impl GuestClaims {
    /// Characters of a text.
    pub const LONGEST: usize = 160;
    pub const MOST_USERS: usize = 64;

    /// Whether it says anything.
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}
