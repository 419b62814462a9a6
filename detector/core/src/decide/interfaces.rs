//! Which interfaces are in scope, and what each is to the kernel programs.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::{maps::MAX_SERVICES, services::Service};
use wildmatch::WildMatch;

use crate::{
    model::{Link, LinkKind, Policy, World},
    reconcile::services,
};

/// What an interface is. One that is none of these is none of our business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A bridge in scope; an internal port of Open vSwitch, which is the host's way in there.
    Bridge,
    /// A port of a bridge or datapath in scope that leads out of the host.
    Uplink,
    /// No port of a bridge in scope; the host may route its frames into one.
    Trusted,
    /// Any other port of a bridge or datapath in scope, and a macvtap.
    Guest,
    /// No port of a bridge in scope: guests' macvtaps are on it. Says whether it is trusted too.
    Device { trusted: bool },
    /// The bridge of the sandbox. Its ports are none of our business.
    Sandbox,
}

/// The ifindex of the sandbox's bridge, where there is one.
pub(super) fn sandbox(world: &World) -> Option<u32> {
    let rules = world.policy.sandbox.as_ref()?;
    let bridge = |link: &&Link| link.kind == LinkKind::Bridge && link.name == rules.bridge;
    world.links.values().find(bridge).map(|link| link.ifindex)
}

/// What those who are quarantined may reach in the sandbox; nothing where everything may be reached.
pub(super) fn offered(world: &World) -> BTreeSet<Service> {
    let named = world.policy.sandbox.as_ref().and_then(|rules| rules.services.as_deref());
    services(named.unwrap_or_default()).into_iter().take(MAX_SERVICES as usize).collect()
}

/// The name of the sandbox's bridge where it is to be made: nothing has that name.
pub(super) fn to_make(world: &World) -> Option<String> {
    let rules = world.policy.sandbox.as_ref().filter(|rules| rules.create)?;
    let is_taken = world.links.values().any(|link| link.name == rules.bridge);
    (!is_taken).then(|| rules.bridge.clone())
}

/// The interfaces in scope, in the order of their ifindex.
///
/// A port of a bridge in scope is a guest's unless something positive says otherwise: it is a
/// device of the machine, or the administrator has named it. A kind that guests use (tap, veth,
/// macvtap) is never guessed to be an uplink, and neither is any other virtual kind: an uplink's
/// frames are vetted unseen, so the guess would be the way around every guard.
pub fn classify<'a>(links: &'a BTreeMap<u32, Link>, policy: &Policy) -> Vec<(&'a Link, Class)> {
    let bridges = Patterns::new(&policy.bridges);
    let uplinks = Patterns::new(&policy.uplinks);
    let trusted = Patterns::new(&policy.trusted);
    let is_sandbox = |link: &Link| {
        let named = policy.sandbox.as_ref().is_some_and(|rules| rules.bridge == link.name);
        link.kind == LinkKind::Bridge && named
    };
    let datapaths = is_datapath_in_scope(links, &bridges);
    let in_scope = |link: &Link| match link.kind {
        LinkKind::Bridge => !is_sandbox(link) && bridges.matches(&link.name),
        LinkKind::OpenVSwitch => datapaths,
        _ => false,
    };
    // Guests share few bridges, so the answer for the last one is worth keeping.
    let mut last = (0, false);
    let mut is_port = |link: &Link| {
        let Some(master) = link.master else { return false };
        if last.0 != master {
            last = (master, links.get(&master).is_some_and(in_scope));
        }
        last.1
    };
    let in_sandbox = |link: &Link| {
        let master = link.master.and_then(|master| links.get(&master));
        policy.sandbox.is_some() && master.is_some_and(is_sandbox)
    };
    let mut placed = |link: &Link| {
        // Whatever device it is on: it is made for guests.
        if is_on_device(link) {
            (!bridges.excludes(&link.name)).then_some(Class::Guest)
        } else if is_port(link) {
            let leads_out = link.kind == LinkKind::Physical || uplinks.matches(&link.name);
            Some(if leads_out { Class::Uplink } else { Class::Guest })
        } else if in_scope(link) {
            Some(Class::Bridge)
        } else if is_sandbox(link) {
            Some(Class::Sandbox)
        } else if in_sandbox(link) {
            None
        } else if link.kind == LinkKind::Physical
            || (link.kind != LinkKind::Loopback
                && (trusted.matches(&link.name) || uplinks.matches(&link.name)))
        {
            Some(Class::Trusted)
        } else {
            None
        }
    };
    let guests = links.values().filter(|link| is_on_device(link) && !bridges.excludes(&link.name));
    let devices: BTreeSet<_> = guests.filter_map(|link| link.lower).collect();
    let mut class = |link: &Link| match placed(link) {
        one @ (None | Some(Class::Trusted)) if devices.contains(&link.ifindex) => {
            Some(Class::Device { trusted: one.is_some() })
        }
        one => one,
    };
    links.values().filter_map(|link| Some((link, class(link)?))).collect()
}

fn is_on_device(link: &Link) -> bool {
    link.kind.is_shared_macvtap() && link.master.is_none()
}

/// Whether a pattern includes the name.
pub(super) fn is_named(name: &str, patterns: &[String]) -> bool {
    Patterns::new(patterns).matches(name)
}

/// The interfaces of these that are in a datapath of Open vSwitch: its ports, and the internal ones.
pub fn switched<'a>(links: &'a BTreeMap<u32, Link>) -> impl Fn(&Link) -> bool + use<'a> {
    |link| match link.master {
        Some(master) => {
            links.get(&master).is_some_and(|master| master.kind == LinkKind::OpenVSwitch)
        }
        None => link.kind == LinkKind::OpenVSwitch,
    }
}

/// Whether Open vSwitch is in scope. All its bridges share one datapath, and which of them a port is of is not
/// known: whoever includes one of them includes all, and only the datapath's own device leaves them out.
fn is_datapath_in_scope(links: &BTreeMap<u32, Link>, bridges: &Patterns) -> bool {
    let mut switches = links.values().filter(|link| link.kind == LinkKind::OpenVSwitch).peekable();
    if switches.peek().is_none() {
        return false;
    }
    let masters: BTreeSet<_> = links.values().filter_map(|link| link.master).collect();
    let mut included = false;
    for link in switches {
        let is_device = link.name == DATAPATH || masters.contains(&link.ifindex);
        if is_device && bridges.excludes(&link.name) {
            return false;
        }
        included |= bridges.matches(&link.name);
    }
    included
}

/// What the daemon of Open vSwitch calls the device of its datapath (`ofproto/ofproto-dpif.c`).
const DATAPATH: &str = "ovs-system";

/// Patterns of which the last that matches a name settles it.
struct Patterns(Vec<(WildMatch, bool)>);

impl Patterns {
    fn new(patterns: &[String]) -> Self {
        let compile = |pattern: &String| match pattern.strip_prefix('!') {
            Some(excluded) => (WildMatch::new(excluded), false),
            None => (WildMatch::new(pattern), true),
        };
        Self(patterns.iter().map(compile).collect())
    }

    fn matches(&self, name: &str) -> bool {
        self.last(name) == Some(true)
    }

    fn excludes(&self, name: &str) -> bool {
        self.last(name) == Some(false)
    }

    fn last(&self, name: &str) -> Option<bool> {
        let last = self.0.iter().rev().find(|(pattern, _)| pattern.matches(name));
        last.map(|(_, included)| *included)
    }
}
