//! What ports that learn have, in place of the kernel's maps.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use detector_common::addr::{Address, Mac, Station};
use detector_common::frame::{COPY_BYTES, COPY_SLACK, Copied};
use detector_common::learned::Origin;
use detector_common::lease::{self, Exchange};
use detector_common::parse::MetaTag;
use detector_common::reason::Reason;
use detector_common::samples::{IP_A, IP6_A, MAC_A};
use detector_core::reconcile::SeedEntry;

use crate::Arrival;

/// The bridge of every port that learns; the loopback device of a namespace stands for it.
pub const SCOPE: u32 = 1;

/// What is leased to MAC A, untagged, at every port that learns.
pub fn leases() -> [IpAddr; 2] {
    [IpAddr::from(IP_A), IpAddr::from(IP6_A)]
}

/// The same for the kernel.
pub fn seeds() -> Vec<SeedEntry> {
    let seed = |address: IpAddr| SeedEntry {
        mac: MAC_A,
        vlan: 0,
        scope: SCOPE,
        address: mapped(address).bytes(),
        expires: None,
        origin: Origin::Dhcp as u32,
    };
    leases().map(seed).into()
}

/// Which station has which address on which VLAN.
#[derive(Clone, Debug)]
pub struct Held {
    owners: BTreeMap<(u16, Address), Station>,
    places: usize,
}

impl Held {
    /// The leases, and place for so many addresses in all.
    pub fn new(places: usize) -> Self {
        let a = Station::new(Mac(MAC_A), 0);
        let owners = leases().map(|address| ((0, mapped(address)), a)).into();
        Self { owners, places }
    }

    /// Whether the station has the address of a port whose rule is `dhcp`; link-local ones come first.
    pub fn ask(&mut self, station: Station, address: Address) -> Reason {
        let key = (station.vlan(), address);
        match self.owners.get(&key) {
            Some(owner) if *owner == station => Reason::Granted,
            Some(_) => Reason::AddressTaken,
            None if !address.is_link_local() => Reason::AddressNotLeased,
            None if self.owners.len() < self.places => {
                self.owners.insert(key, station);
                Reason::Granted
            }
            None => Reason::LearnedFull,
        }
    }
}

/// The address of which the frame prolongs the lease, as the kernel reads it.
pub(crate) fn renewed(arrival: &Arrival, tag: MetaTag) -> Option<Address> {
    let mut bytes = [0xa5; COPY_BYTES + COPY_SLACK];
    let copied = arrival.bytes.len().min(COPY_BYTES);
    bytes[..copied].copy_from_slice(&arrival.bytes[..copied]);
    let mut found = Exchange::NOTHING;
    if !arrival.in_segments {
        lease::read(Copied::new(&bytes, copied), tag.vlan(), &mut found);
    }
    let address = lease::renewed(&found);
    (address != 0).then(|| Address::mapped_word(address))
}

fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::mapped(address.octets()),
        IpAddr::V6(address) => Ipv6Addr::into(address),
    }
}
