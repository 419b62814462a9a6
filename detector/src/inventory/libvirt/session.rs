use std::sync::Arc;

use detector_core::model::{PowerState, Rejected, Unsettled};
use uuid::Uuid;
use virt::{
    connect::Connect,
    domain::Domain,
    error::{Error, ErrorNumber},
    sys,
};

use super::{
    events::{Signal, Subscription},
    watchdog::Watchdog,
};
use crate::inventory::{Refused, Update, place_of, xml};

/// Seconds between keep-alive messages, and how many may go unanswered.
pub(super) const KEEPALIVE: (i32, u32) = (5, 3);

/// A connection with its events subscribed.
pub(super) struct Session {
    pub(super) uri: String,
    pub(super) connection: Connect,
    subscription: Subscription,
    pub(super) watchdog: Arc<Watchdog>,
    pub(super) context: xml::Shared,
}

impl Session {
    pub(super) fn open(
        uri: &str,
        signal: &Arc<Signal>,
        watchdog: &Arc<Watchdog>,
        context: &xml::Shared,
    ) -> Result<Self, Error> {
        signal.renew();
        let (connection, subscription) = watchdog.call("connect", || {
            let mut connection = Connect::open_read_only(Some(uri))?;
            // Drivers that live in this process have no peer to keep alive.
            if let Err(error) = connection.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1) {
                tracing::debug!(%error, "no keep-alive");
            }
            match Subscription::new(&connection, signal) {
                Ok(subscription) => Ok((connection, subscription)),
                Err(error) => {
                    close(&mut connection);
                    Err(error)
                }
            }
        })?;
        let (watchdog, context) = (Arc::clone(watchdog), context.clone());
        Ok(Self { uri: uri.to_owned(), connection, subscription, watchdog, context })
    }

    pub(super) fn is_alive(&self) -> Result<bool, Error> {
        self.connection.is_alive()
    }

    /// Every domain, running or not: `Changed` or `Refused`, or `Gone` meanwhile.
    pub(super) fn domains(&self) -> Result<Vec<Update>, Error> {
        let list = || self.connection.list_all_domains(0);
        let domains = self.watchdog.call("list the domains", list)?;
        domains.iter().map(|domain| self.describe(domain, domain.get_uuid()?, true)).collect()
    }

    /// One domain as it is now.
    pub(super) fn domain(&self, uuid: Uuid) -> Result<Update, Error> {
        let look_up = || Domain::lookup_by_uuid(&self.connection, uuid);
        match self.watchdog.call(format!("look up the domain {uuid}"), look_up) {
            Ok(domain) => self.describe(&domain, uuid, false),
            Err(error) if is_gone(&error) => Ok(Update::Gone(uuid)),
            Err(error) => Err(error),
        }
    }

    /// An error with one domain does not end the session; one with the connection shows in
    /// `is_alive`. In a listing everything is asked for anew.
    fn describe(&self, domain: &Domain, uuid: Uuid, listed: bool) -> Result<Update, Error> {
        let refused = |why: String| {
            let rejected = Rejected { place: place_of(&self.uri, uuid), why };
            Update::Refused(Refused { vm: Some(uuid), nics: Unsettled::default(), rejected })
        };
        let described = self.watchdog.call(format!("describe the domain {uuid}"), || {
            domain.get_state().and_then(|state| Ok((state, domain.get_xml_desc(0)?)))
        });
        let (state, text) = match described {
            Ok(described) => described,
            Err(error) if is_gone(&error) => return Ok(Update::Gone(uuid)),
            Err(error) if !self.is_alive()? => return Err(error),
            Err(error) => return Ok(refused(format!("libvirt does not describe it: {error}"))),
        };
        self.find_volumes(&text, listed)?;
        Ok(match xml::parse(&text, power(state), &self.context.get()) {
            Ok(vm) if vm.uuid == uuid => Update::Changed(vm),
            Ok(vm) => refused(format!("its description has another UUID ({})", vm.uuid)),
            Err(error) => refused(format!("its description (virsh dumpxml) is refused: {error}")),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Self { connection, subscription, watchdog, .. } = self;
        watchdog.call("close the connection", || {
            subscription.cancel(connection);
            close(connection);
        });
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
