use serde::{Deserialize, Serialize};

/// What a DHCP client says of itself when it asks for an address: systems differ in it. All of it is the
/// client's to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpPrint {
    /// The options that it wants, in its order (option 55); at most 255.
    pub options: Vec<u8>,
    /// Its vendor class (option 60), raw.
    pub vendor: Option<String>,
    /// Its name (option 12), raw.
    pub host: Option<String>,
}
