//! The section `sandbox`.

use std::net::IpAddr;

use detector_core::model::{AddressRule, SandboxService, ServiceKind};
use ipnet::IpNet;
use serde::Deserialize;

use super::text::networks;

/// Where quarantined ports may speak.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// A bridge that is nothing else; there is no sandbox without.
    pub bridge: Option<String>,
    /// Whether the daemon makes it where there is none.
    pub create: bool,
    /// How those who are quarantined have addresses there.
    pub rule: AddressRule,
    /// What those have to be within; empty for anywhere.
    #[serde(deserialize_with = "networks")]
    pub addresses: Vec<IpNet>,
    /// Addresses of what is offered there, besides those of `services`: nobody who is quarantined may use them.
    pub protected: Vec<IpAddr>,
    /// What they may reach there; everything, where it is absent.
    pub services: Option<Vec<ServiceKeys>>,
}

/// A service in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceKeys {
    pub address: IpAddr,
    pub protocol: Protocol,
    /// Of TCP and UDP.
    pub port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
    Dhcp,
    Router,
}

impl ServiceKeys {
    /// What it is; `None` where a port is missing, or is one too many.
    pub fn service(&self) -> Option<SandboxService> {
        let kind = match (self.protocol, self.port) {
            (Protocol::Tcp, Some(port)) => ServiceKind::Tcp(port),
            (Protocol::Udp, Some(port)) => ServiceKind::Udp(port),
            (Protocol::Icmp, None) => ServiceKind::Icmp,
            (Protocol::Dhcp, None) => ServiceKind::Dhcp,
            (Protocol::Router, None) => ServiceKind::Router,
            _ => return None,
        };
        Some(SandboxService { address: self.address, kind })
    }
}

impl Sandbox {
    /// Addresses that nobody who is quarantined may use, each with the key that names it: what is offered there passes for
    /// nobody else.
    pub(super) fn reserved(&self) -> impl Iterator<Item = (&'static str, IpAddr)> {
        let protected = self.protected.iter().map(|address| ("protected", *address));
        let services = self.services.iter().flatten().map(|service| ("services", service.address));
        protected.chain(services)
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        let (addresses, protected) = (Vec::new(), Vec::new());
        let (bridge, rule) = (None, AddressRule::FirstCome);
        Self { bridge, create: false, rule, addresses, protected, services: None }
    }
}
