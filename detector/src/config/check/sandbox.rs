//! The sandbox: its bridge, and whose addresses are whose there.

use std::net::IpAddr;

use detector_common::quarantine::QuarantineMode;
use detector_core::model::AddressRule;

use super::{Checked, Complaint, MAX_INTERFACE_NAME, ensure};
use crate::config::{Config, Protocol, Sandbox, ServiceKeys};

const SERVICES: &[&str] = &["sandbox", "services"];

/// Services that can be named: each takes some entries of a map.
const MOST_SERVICES: usize = 128;

/// Checks the section `sandbox`, and what depends on it.
pub(super) fn check(config: &Config) -> Checked {
    let bridge = config.sandbox.bridge.as_deref();
    if let Some(bridge) = bridge {
        let nameable = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':');
        let fits = !bridge.is_empty()
            && bridge.len() <= MAX_INTERFACE_NAME
            && bridge.chars().all(nameable)
            && !bridge.contains(['*', '?']);
        ensure(fits, &["sandbox", "bridge"], || {
            format!("{bridge:?} is no interface name; expected one bridge, such as \"sbx0\"")
        })?;
    }
    ensure(bridge.is_some() || !config.sandbox.create, &["sandbox", "create"], || {
        "the bridge that is to be made has no name; expected sandbox.bridge".to_owned()
    })?;
    if bridge.is_some() {
        ensure(config.stamp.brought().is_some(), &["stamp", "mask"], || {
            let mask = config.stamp.mask;
            format!(
                "{mask:#x} has one bit, and the frames of a sandbox need a value of their own; expected two bits \
                 or more, such as 0xc0000000"
            )
        })?;
    }
    addresses(&config.sandbox)?;
    services(&config.sandbox)?;
    let wanted = config.policy.quarantine == QuarantineMode::Sandbox;
    ensure(!wanted || bridge.is_some(), &["policy", "quarantine"], || {
        "there is no sandbox; expected its bridge as sandbox.bridge, or \"drop\"".to_owned()
    })
}

/// Each service is found by its address, and asked at one.
fn services(sandbox: &Sandbox) -> Checked {
    let Some(named) = &sandbox.services else { return Ok(()) };
    ensure(sandbox.bridge.is_some(), SERVICES, || {
        "there is no sandbox to offer them; expected its bridge as sandbox.bridge".to_owned()
    })?;
    ensure(named.len() <= MOST_SERVICES, SERVICES, || {
        format!("{} services; expected {MOST_SERVICES} at most", named.len())
    })?;
    for one in named {
        let ServiceKeys { address, protocol, port } = one;
        let single = match address {
            IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast(),
            IpAddr::V6(v6) => !v6.is_multicast() && v6.to_ipv4_mapped().is_none(),
        };
        ensure(single && !address.is_unspecified(), SERVICES, || {
            format!("{address} is no host's address; expected the service's own")
        })?;
        ensure(one.service().is_some() && *port != Some(0), SERVICES, || {
            let expected = match protocol {
                Protocol::Tcp | Protocol::Udp => "a port from 1 on",
                Protocol::Icmp | Protocol::Dhcp | Protocol::Router => "no port",
            };
            format!("the service at {address} has a wrong port; expected {expected}")
        })?;
    }
    Ok(())
}

fn addresses(sandbox: &Sandbox) -> Checked {
    const RULE: &[&str] = &["sandbox", "rule"];
    let Sandbox { rule, addresses, .. } = sandbox;
    ensure(*rule != AddressRule::Exact, RULE, || {
        "nobody lists addresses for whoever is quarantined; expected \"first-come\", \"dhcp\", \"prefix\" \
         or \"any\""
        .to_owned()
    })?;
    ensure(*rule != AddressRule::Prefix || !addresses.is_empty(), RULE, || {
        "there are no prefixes; expected sandbox.addresses with at least one, or another rule"
            .to_owned()
    })?;
    ensure(*rule != AddressRule::Any || addresses.is_empty(), &["sandbox", "addresses"], || {
        "sandbox.rule = \"any\" does not look at them; expected no addresses, or \"prefix\" or \
         \"first-come\""
            .to_owned()
    })?;
    // Those rules ask nobody whose an address is.
    let within = |address: &IpAddr| addresses.iter().any(|net| net.contains(address));
    let taken = match rule {
        AddressRule::Any => sandbox.reserved().next(),
        AddressRule::Prefix => sandbox.reserved().find(|(_, address)| within(address)),
        _ => None,
    };
    match taken {
        Some((named, address)) => Err(Complaint {
            key: if named == "services" { SERVICES } else { &["sandbox", "protected"] },
            message: format!(
                "sandbox.rule = {:?} lets anybody use {address}; expected \"first-come\" or \"dhcp\", which \
                 ask whose an address is, or prefixes without it",
                rule.as_str()
            ),
        }),
        None => Ok(()),
    }
}
