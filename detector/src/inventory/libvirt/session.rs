use std::{path::PathBuf, sync::Arc};

use detector_core::model::{PowerState, Rejected, Unsettled};
use uuid::Uuid;
use virt::{
    connect::Connect,
    domain::Domain,
    error::{Error, ErrorNumber},
    sys,
};

use super::events::{Signal, Subscription};
use crate::inventory::{Refused, Update, place_of, xml};

/// Seconds between keep-alive messages, and how many may go unanswered.
const KEEPALIVE: (i32, u32) = (5, 3);

/// A connection with its events subscribed.
pub(super) struct Session {
    uri: String,
    connection: Connect,
    subscription: Subscription,
}

impl Session {
    pub(super) fn open(uri: &str, signal: &Arc<Signal>) -> Result<Self, Error> {
        signal.renew();
        let mut connection = Connect::open_read_only(Some(uri))?;
        // Drivers that live in this process have no peer to keep alive.
        if let Err(error) = connection.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1) {
            tracing::debug!(%error, "no keep-alive");
        }
        match Subscription::new(&connection, signal) {
            Ok(subscription) => Ok(Self { uri: uri.to_owned(), connection, subscription }),
            Err(error) => {
                close(&mut connection);
                Err(error)
            }
        }
    }

    pub(super) fn is_alive(&self) -> Result<bool, Error> {
        self.connection.is_alive()
    }

    /// Every domain, running or not: `Changed` or `Refused`, or `Gone` meanwhile.
    pub(super) fn domains(&self) -> Result<Vec<Update>, Error> {
        let domains = self.connection.list_all_domains(0)?;
        domains.iter().map(|domain| self.describe(domain, domain.get_uuid()?)).collect()
    }

    /// One domain as it is now.
    pub(super) fn domain(&self, uuid: Uuid) -> Result<Update, Error> {
        match Domain::lookup_by_uuid(&self.connection, uuid) {
            Ok(domain) => self.describe(&domain, uuid),
            Err(error) if is_gone(&error) => Ok(Update::Gone(uuid)),
            Err(error) => Err(error),
        }
    }

    /// The directories of its storage pools; `None` where it does not say, and what it said before
    /// stands.
    pub(super) fn pools(&self) -> Option<Vec<PathBuf>> {
        let pools = self.connection.list_all_storage_pools(0);
        let pools = pools
            .inspect_err(|error| tracing::debug!(%error, "libvirt lists no storage pools"))
            .ok()?;
        let described: Result<Vec<_>, _> = pools.iter().map(|pool| pool.get_xml_desc(0)).collect();
        let mut directories: Vec<_> =
            described.ok()?.iter().filter_map(|text| xml::pool::directory(text)).collect();
        directories.sort();
        directories.dedup();
        Some(directories)
    }

    /// An error with one domain does not end the session; one with the connection shows in
    /// `is_alive`.
    fn describe(&self, domain: &Domain, uuid: Uuid) -> Result<Update, Error> {
        let refused = |why: String| {
            let rejected = Rejected { place: place_of(&self.uri, uuid), why };
            Update::Refused(Refused { vm: Some(uuid), nics: Unsettled::default(), rejected })
        };
        let described = domain.get_state().and_then(|state| Ok((state, domain.get_xml_desc(0)?)));
        let (state, text) = match described {
            Ok(described) => described,
            Err(error) if is_gone(&error) => return Ok(Update::Gone(uuid)),
            Err(error) if !self.is_alive()? => return Err(error),
            Err(error) => return Ok(refused(format!("libvirt does not describe it: {error}"))),
        };
        Ok(match xml::parse(&text, power(state)) {
            Ok(vm) if vm.uuid == uuid => Update::Changed(vm),
            Ok(vm) => refused(format!("its description has another UUID ({})", vm.uuid)),
            Err(error) => refused(format!("its description (virsh dumpxml) is refused: {error}")),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.subscription.cancel(&self.connection);
        close(&mut self.connection);
    }
}

fn close(connection: &mut Connect) {
    if let Err(error) = connection.close() {
        tracing::debug!(%error, "closing libvirt");
    }
}

fn is_gone(error: &Error) -> bool {
    error.code() == ErrorNumber::NoDomain
}

fn power((state, reason): (sys::virDomainState, i32)) -> PowerState {
    match state {
        sys::VIR_DOMAIN_SHUTOFF => PowerState::Off,
        sys::VIR_DOMAIN_PAUSED if reason.cast_unsigned() == sys::VIR_DOMAIN_PAUSED_STARTING_UP => {
            PowerState::Starting
        }
        sys::VIR_DOMAIN_PAUSED if is_in_transit(reason) => PowerState::InTransit,
        // A crashed domain that is preserved has its process and its ports still.
        sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_PMSUSPENDED | sys::VIR_DOMAIN_CRASHED => {
            PowerState::Paused
        }
        _ => PowerState::Running,
    }
}

/// Paused because the guest runs, or is to run, on another host: on the side that it comes from as on
/// the one that it goes to.
fn is_in_transit(reason: i32) -> bool {
    matches!(
        reason.cast_unsigned(),
        sys::VIR_DOMAIN_PAUSED_MIGRATION
            | sys::VIR_DOMAIN_PAUSED_POSTCOPY
            | sys::VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
    )
}
