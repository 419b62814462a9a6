//! DHCPv6.

use std::net::IpAddr;

use dhcproto::Decodable;
use dhcproto::v6::{IAAddr, Message as Head, MessageType};

use super::{Message, Says};
use crate::Mac;

/// Options of a message that are read, those of its associations included.
const MOST_OPTIONS: usize = 47;
const MOST_ADDRESSES: usize = 4;
const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
/// Associations, and what stands in them before their options.
const ASSOCIATIONS: [(u16, usize); 2] = [(3, 12), (4, 4)];
const ADDRESS: u16 = 5;

pub(super) fn read(message: &[u8], client: (Mac, u16), by_client: bool) -> Option<Message> {
    let head = Head::from_bytes(message.get(..4)?).ok()?;
    let options = options(&message[4..])?;
    let mut count = options.len();
    let mut addresses = Vec::new();
    for (code, value) in &options {
        let Some((_, before)) = ASSOCIATIONS.iter().find(|(one, _)| one == code) else { continue };
        for (code, value) in self::options(value.get(*before..)?)? {
            count += 1;
            if code == ADDRESS {
                let address = IAAddr::from_bytes(value.get(..24)?).ok()?;
                addresses.push((IpAddr::V6(address.addr), address.valid_life));
            }
        }
    }
    if count > MOST_OPTIONS || addresses.len() > MOST_ADDRESSES {
        return None;
    }
    let names = |wanted| options.iter().any(|(code, _)| *code == wanted);
    let says = match head.msg_type() {
        MessageType::Solicit | MessageType::Request | MessageType::Renew | MessageType::Rebind
            if by_client =>
        {
            Says::Asks(None)
        }
        MessageType::Release | MessageType::Decline if by_client => {
            Says::GivesUp(addresses.into_iter().map(|(address, _)| address).collect())
        }
        MessageType::Reply if !by_client && names(CLIENT_ID) && names(SERVER_ID) => {
            Says::Leases(addresses)
        }
        _ => return None,
    };
    let [a, b, c] = head.xid();
    Some(Message {
        client,
        id: u32::from_be_bytes([0, a, b, c]),
        is_v6: true,
        says,
        routers: Vec::new(),
    })
}

/// All of them; `None` if they do not fill the bytes.
fn options(bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let &[a, b, c, d] = rest.get(..4)? else { return None };
        let (value, after) = rest[4..].split_at_checked(u16::from_be_bytes([c, d]).into())?;
        found.push((u16::from_be_bytes([a, b]), value));
        rest = after;
    }
    Some(found)
}
