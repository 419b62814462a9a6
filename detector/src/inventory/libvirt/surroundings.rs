//! What a session learns of libvirt besides its domains: pools, networks, volumes and leases.

use std::{collections::BTreeMap, ffi::CStr, path::PathBuf, ptr};

use detector_common::addr::Mac;
use detector_core::model::{KnownLease, Rejected, Timestamp, Unsettled};
use libc::c_char;
use virt::{
    error::Error, network::Network, storage_pool::StoragePool, storage_vol::StorageVol, sys,
};

use super::session::Session;
use crate::inventory::{
    Refused,
    xml::{self, Volume, VolumeName},
};

/// Leases of one network that are taken in.
const MOST_LEASES: usize = 65_536;
/// Devices of which it is kept whether they are snapshots; more than a host has disks.
const MOST_DEVICES: usize = 4096;

impl Session {
    /// The directories of its storage pools; `None` where it does not say, and what it said before
    /// stands.
    pub(super) fn pools(&self) -> Option<Vec<PathBuf>> {
        let list = || self.connection.list_all_storage_pools(0);
        let pools = self.watchdog.call("list the storage pools", list);
        let pools = pools
            .inspect_err(|error| tracing::debug!(%error, "libvirt lists no storage pools"))
            .ok()?;
        let describe = |pool: &StoragePool| {
            self.watchdog.call("describe a storage pool", || pool.get_xml_desc(0))
        };
        let described: Result<Vec<_>, _> = pools.iter().map(describe).collect();
        let mut directories: Vec<_> =
            described.ok()?.iter().filter_map(|text| xml::pool::directory(text)).collect();
        directories.sort();
        directories.dedup();
        Some(directories)
    }

    /// Its networks become part of the context, and their leases are returned. Without an answer what it
    /// said before stands. What cannot be understood is refused, and the network is as if it were not
    /// there.
    pub(super) fn networks(&self) -> Option<(Vec<KnownLease>, Vec<Refused>)> {
        let list = || self.connection.list_all_networks(0);
        let all = self.watchdog.call("list the networks", list);
        let all =
            all.inspect_err(|error| tracing::debug!(%error, "libvirt lists no networks")).ok()?;
        let (mut networks, mut leases, mut refused) = (BTreeMap::new(), Vec::new(), Vec::new());
        for network in &all {
            let describe = || Ok::<_, Error>((network.get_name()?, network.get_xml_desc(0)?));
            let Ok((name, text)) = self.watchdog.call("describe a network", describe) else {
                // Gone meanwhile.
                continue;
            };
            match xml::Network::parse(&text) {
                Ok((name, network)) => drop(networks.insert(name, network)),
                Err(error) => {
                    let place = format!("{}, network {name}", self.uri);
                    let why = format!("its description (virsh net-dumpxml) is refused: {error}");
                    let rejected = Rejected { place, why };
                    refused.push(Refused { vm: None, nics: Unsettled::default(), rejected });
                }
            }
            // One that has no server, or is off, has none.
            let asked = || leases_of(network);
            leases.extend(self.watchdog.call(format!("list the leases of {name}"), asked));
        }
        self.context.update(|context| context.networks = networks);
        Some((leases, refused))
    }

    /// Finds out where the volumes are that this description names; `again` also where that is known, for
    /// they may be elsewhere by now. Those that are known are no more than there are volumes. What cannot
    /// be found any more, as when its pool is off, is where it was. Of devices that it names it is asked
    /// whether they are snapshots.
    pub(super) fn find_volumes(&self, domain: &str, again: bool) -> Result<(), Error> {
        for name in xml::volume::named(domain) {
            if !again && self.context.get().volumes.contains_key(&name) {
                continue;
            }
            let found = self.watchdog.call("find a volume", || self.volume(&name));
            match found {
                Ok(volume) => self.context.update(|all| drop(all.volumes.insert(name, volume))),
                Err(error) if !self.is_alive()? => return Err(error),
                Err(error) => tracing::debug!(?name, %error, "libvirt does not find a volume"),
            }
        }
        for path in xml::volume::devices(domain) {
            if !again && self.context.get().origins.contains_key(&path) {
                continue;
            }
            let find = || StorageVol::lookup_by_path(&self.connection, &path)?.get_xml_desc(0);
            let origin = match self.watchdog.call("find the volume of a device", find) {
                Ok(text) => match Volume::parse(&text) {
                    Volume::Block(_, origin) => origin,
                    Volume::File(_) | Volume::Elsewhere => None,
                },
                Err(error) if !self.is_alive()? => return Err(error),
                // A device in no pool is what it is.
                Err(_) => None,
            };
            self.context.update(|all| {
                if all.origins.len() >= MOST_DEVICES {
                    all.origins.clear();
                }
                all.origins.insert(path, origin);
            });
        }
        Ok(())
    }

    fn volume(&self, (pool, volume): &VolumeName) -> Result<Volume, Error> {
        let pool = StoragePool::lookup_by_name(&self.connection, pool)?;
        let volume = StorageVol::lookup_by_name(&pool, volume)?;
        Ok(Volume::parse(&volume.get_xml_desc(0)?))
    }
}

/// The leases that the server of a network has given out.
fn leases_of(network: &Network) -> Vec<KnownLease> {
    let bridge = network.get_bridge_name().ok();
    let mut array: *mut sys::virNetworkDHCPLeasePtr = ptr::null_mut();
    // SAFETY: the network is alive, no MAC is asked for in particular, and libvirt writes one pointer to
    // an array that it has allocated.
    let count =
        unsafe { sys::virNetworkGetDHCPLeases(network.as_ptr(), ptr::null(), &mut array, 0) };
    let Ok(count) = usize::try_from(count) else { return Vec::new() };
    let mut leases = Vec::new();
    for place in 0..count {
        // SAFETY: the array has that many entries, each of which is a lease that is ours to free.
        let lease = unsafe { *array.add(place) };
        if leases.len() < MOST_LEASES {
            // SAFETY: the lease has not been freed, and its texts are strings of libvirt's.
            leases.extend(unsafe { known(&*lease, bridge.as_deref()) });
        }
        // SAFETY: it is ours, and nobody has freed it.
        unsafe { sys::virNetworkDHCPLeaseFree(lease) };
    }
    // SAFETY: the array itself is ours, too, allocated by malloc; of no array nothing is freed.
    unsafe { libc::free(array.cast()) };
    leases
}

/// # Safety
///
/// The texts of the lease are strings or null.
unsafe fn known(lease: &sys::virNetworkDHCPLease, bridge: Option<&str>) -> Option<KnownLease> {
    // SAFETY: the caller says so.
    let text = |text: *const c_char| unsafe {
        (!text.is_null()).then(|| CStr::from_ptr(text).to_str().ok()).flatten()
    };
    let mac: Mac = text(lease.mac)?.parse().ok()?;
    let address = text(lease.ipaddr)?.parse().ok()?;
    let expires = u64::try_from(lease.expirytime).ok()?;
    Some(KnownLease {
        mac,
        vlan: 0,
        bridge: bridge.map(str::to_owned),
        address,
        // In seconds; zero is no end.
        expires: (expires != 0).then(|| Timestamp(expires.saturating_mul(1000))),
        from_file: true,
    })
}
