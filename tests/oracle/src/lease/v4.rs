//! DHCP.

use std::net::{IpAddr, Ipv4Addr};

use dhcproto::Decodable;
use dhcproto::v4::{self, DhcpOption, HType, MessageType, Opcode};

use super::{Message, Says};
use crate::options;

const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const FIXED: usize = 240;

pub(super) fn read(message: &[u8], vlan: u16, by_client: bool) -> Option<Message> {
    let head = v4::Message::from_bytes(message.get(..FIXED)?).ok()?;
    let operation = if by_client { Opcode::BootRequest } else { Opcode::BootReply };
    let ethernet = head.htype() == HType::Eth && head.hlen() == 6;
    if head.opcode() != operation || !ethernet || message[FIXED - 4..FIXED] != MAGIC {
        return None;
    }
    let found = Options::read(message)?;
    let wanted = match found.requested {
        Some(address) if !address.is_unspecified() => Some(address),
        _ => (!head.ciaddr().is_unspecified()).then_some(head.ciaddr()),
    };
    let says = match found.kind? {
        MessageType::Discover | MessageType::Request if by_client => Says::Asks(wanted),
        MessageType::Release if by_client => Says::GivesUp(vec![IpAddr::V4(head.ciaddr())]),
        MessageType::Decline if by_client => {
            Says::GivesUp(vec![IpAddr::V4(found.requested.unwrap_or([0; 4].into()))])
        }
        // The answer to an INFORM names no address and no time (RFC 2131, section 4.3.5).
        MessageType::Ack if !by_client && found.names_server && !head.yiaddr().is_unspecified() => {
            Says::Leases(vec![(IpAddr::V4(head.yiaddr()), found.seconds?)])
        }
        MessageType::Nak if !by_client && found.names_server => Says::Refuses,
        _ => return None,
    };
    let mut client = [0; 6];
    client.copy_from_slice(&message[28..34]);
    let leases = matches!(says, Says::Leases(_));
    let routers = if leases { found.routers } else { Vec::new() };
    Some(Message { client: (client, vlan), id: head.xid(), is_v6: false, says, routers })
}

/// What the options that matter hold.
#[derive(Default)]
struct Options {
    kind: Option<MessageType>,
    requested: Option<Ipv4Addr>,
    seconds: Option<u32>,
    names_server: bool,
    routers: Vec<Ipv4Addr>,
}

impl Options {
    fn read(message: &[u8]) -> Option<Self> {
        let all = options::of(message)?;
        let mut found = Self { routers: routers(&all), ..Self::default() };
        for (code, value) in options::that_matter(&all)? {
            let bytes = [&[code, value.len() as u8][..], value].concat();
            match DhcpOption::from_bytes(&bytes).ok()? {
                DhcpOption::MessageType(kind) => found.kind = Some(kind),
                DhcpOption::RequestedIpAddress(address) => found.requested = Some(address),
                DhcpOption::AddressLeaseTime(seconds) => found.seconds = Some(seconds),
                DhcpOption::ServerIdentifier(_) => found.names_server = true,
                _ => {}
            }
        }
        Some(found)
    }
}

fn routers(all: &[(u8, &[u8])]) -> Vec<Ipv4Addr> {
    let first = |wanted| {
        let found = all.iter().find(|(code, value)| *code == wanted && !value.is_empty());
        found.map_or(&[][..], |(_, value)| value)
    };
    let address = |bytes: &[u8]| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
    let listed = first(3).chunks_exact(4).take(4).map(address);
    let mut found: Vec<_> = listed.collect();
    let mut rest = first(121);
    for _ in 0..16 {
        let Some((width @ 0..=32, behind)) = rest.split_first() else { break };
        let network = usize::from(*width).div_ceil(8);
        let Some(router) = behind.get(network..network + 4) else { break };
        found.push(address(router));
        rest = &behind[network + 4..];
    }
    found
}
