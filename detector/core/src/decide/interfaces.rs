//! Which interfaces are in scope, and what each is to the kernel programs.

use std::collections::BTreeMap;

use wildmatch::WildMatch;

use crate::model::{Link, LinkKind, Policy, World};

/// What an interface is. One that is none of these is none of our business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A bridge in scope.
    Bridge,
    /// A port of a bridge in scope that leads out of the host.
    Uplink,
    /// No port of a bridge in scope; the host may route its frames into one.
    Trusted,
    /// Any other port of a bridge in scope, and a macvtap.
    Guest,
    /// The bridge of the sandbox. Its ports are none of our business.
    Sandbox,
}

/// The ifindex of the sandbox's bridge, where there is one.
pub(super) fn sandbox(world: &World) -> Option<u32> {
    let name = world.policy.sandbox.as_ref()?;
    let bridge = |link: &&Link| link.kind == LinkKind::Bridge && link.name == *name;
    world.links.values().find(bridge).map(|link| link.ifindex)
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
    let is_sandbox =
        |link: &Link| link.kind == LinkKind::Bridge && policy.sandbox.as_ref() == Some(&link.name);
    let in_scope = |link: &Link| {
        link.kind == LinkKind::Bridge && !is_sandbox(link) && bridges.matches(&link.name)
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
    let class = |link: &Link| {
        // Whatever device it is on: it is made for guests.
        let on_device = link.kind == LinkKind::Macvtap && link.master.is_none();
        if on_device {
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
    let mut class = class;
    links.values().filter_map(|link| Some((link, class(link)?))).collect()
}

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
