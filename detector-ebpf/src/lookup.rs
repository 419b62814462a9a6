//! Who an interface is and what it is granted: the only owner of these maps.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
};
use detector_common::{
    maps,
    port::{Grant, GrantKey, PortSlot, PrefixKey, Role, flags},
    quarantine::{QuarantineKey, QuarantineRecord},
    settings::Settings,
    verdict::Grants,
};

const NO_PREALLOC: u32 = aya_ebpf::bindings::BPF_F_NO_PREALLOC;

#[map]
static SETTINGS: Array<Settings> = Array::pinned(1, 0);

#[map]
static PORTS: Array<PortSlot> = Array::pinned(maps::PORT_SLOTS, 0);

#[map]
static PORT_OVERFLOW: HashMap<u32, PortSlot> = HashMap::pinned(maps::MAX_PORTS, NO_PREALLOC);

#[map]
static GRANTS: HashMap<GrantKey, Grant> = HashMap::pinned(maps::MAX_GRANTS, NO_PREALLOC);

#[map]
static PREFIXES: LpmTrie<PrefixKey, Grant> = LpmTrie::pinned(maps::MAX_PREFIXES, 0);

/// No program reads it: it is the record from which slots are isolated, kept beside them so that it
/// outlives the daemon.
#[map]
static QUARANTINE: HashMap<QuarantineKey, QuarantineRecord> =
    HashMap::pinned(maps::MAX_QUARANTINES, NO_PREALLOC);

#[inline(always)]
pub(crate) fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// Whether drop verdicts are carried out.
#[inline(always)]
pub(crate) fn enforces() -> bool {
    settings().is_none_or(Settings::enforces)
}

/// The slot in force for an interface, where it has its own.
#[inline(always)]
pub(crate) fn inline_port(ifindex: u32) -> Option<&'static PortSlot> {
    PORTS.get(ifindex % maps::PORT_SLOTS).filter(|slot| slot.ifindex == ifindex)
}

/// The slot in force for an interface.
#[inline(always)]
pub(crate) fn port(ifindex: u32) -> Option<&'static PortSlot> {
    if let Some(slot) = inline_port(ifindex) {
        return Some(slot);
    }
    // SAFETY: slots are replaced whole and never freed while a program runs (RCU).
    unsafe { PORT_OVERFLOW.get(ifindex) }
}

/// Whether frames that came in by this interface, and carry the stamp, may be delivered.
#[inline(always)]
pub(crate) fn in_force(ifindex: u32) -> bool {
    match port(ifindex) {
        None => false,
        Some(slot) => match slot.role() {
            Role::Vacant => false,
            Role::Guest => slot.flags & (flags::GRANTED | flags::ISOLATED) == flags::GRANTED,
            Role::Uplink | Role::Bridge | Role::Trusted => true,
        },
    }
}

/// What is granted beyond the inline identities.
pub(crate) struct MapGrants;

impl Grants for MapGrants {
    #[inline(always)]
    fn grant(&self, key: &GrantKey) -> Option<Grant> {
        // SAFETY: a grant is one word.
        unsafe { GRANTS.get(key) }.copied()
    }

    #[inline(always)]
    fn prefix(&self, key: &PrefixKey) -> Option<Grant> {
        PREFIXES.get(Key::new(PrefixKey::SCOPE_BITS + 128, *key)).copied()
    }
}
