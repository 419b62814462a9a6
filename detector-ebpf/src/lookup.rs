//! Who an interface is and what it is granted: the only owner of these maps.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
};
use detector_common::{
    addr::Station,
    maps,
    port::{Grant, GrantKey, MacOwner, PortSlot, PrefixKey},
    quarantine::{QuarantineKey, QuarantineRecord},
    sandbox::Passage,
    services::Service,
    settings::Settings,
    verdict::Grants,
};

use crate::learned;

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

#[map]
static MAC_OWNERS: HashMap<Station, MacOwner> = HashMap::pinned(maps::MAX_MAC_OWNERS, NO_PREALLOC);

#[map]
static SANDBOX: HashMap<u32, Passage> = HashMap::pinned(maps::MAX_PASSAGES, NO_PREALLOC);

#[map]
static SERVICES: HashMap<Service, u32> = HashMap::pinned(maps::MAX_SERVICES, NO_PREALLOC);

/// Whether ports in the sandbox may reach it.
#[inline(always)]
pub(crate) fn is_offered(service: &Service) -> bool {
    // SAFETY: only whether there is an entry is looked at.
    unsafe { SERVICES.get(service) }.is_some()
}

/// Whether a guest of this host has the MAC, and speaks from here.
#[inline(always)]
pub(crate) fn is_owned(station: Station) -> bool {
    // SAFETY: only whether there is an entry is looked at.
    let owned = |station: Station| unsafe { MAC_OWNERS.get(station) }.is_some();
    owned(station) || station.vlan() != 0 && owned(station.on_vlan(0))
}

/// The same where the frame came in by an uplink that it is an untagged one of: the bridge takes it for
/// one of the uplink's own VLAN.
#[inline(always)]
pub(crate) fn is_owned_natively(station: Station, uplink: u32) -> bool {
    let native = if station.vlan() == 0 { port(uplink).map_or(0, |slot| slot.vlan) } else { 0 };
    // SAFETY: only whether there is an entry is looked at.
    native != 0 && unsafe { MAC_OWNERS.get(station.on_vlan(native)) }.is_some()
}

#[inline(always)]
pub(crate) fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// Whether drop verdicts are carried out. What passes never asks.
#[inline(always)]
pub(crate) fn enforces() -> bool {
    settings().is_none_or(carries_out)
}

/// The same for those who have the settings already.
#[inline(always)]
pub(crate) fn carries_out(settings: &Settings) -> bool {
    settings.enforces(learned::now)
}

/// Whether what is refused on this interface is dropped.
#[inline(always)]
pub(crate) fn drops(slot: &PortSlot, settings: &Settings) -> bool {
    slot.drops(settings, learned::now)
}

/// The slot in force for an interface, where it has its own. The number of the interface is a word, since
/// one of 32 bits would have its upper half cleared before it is compared.
#[inline(always)]
pub(crate) fn inline_port(ifindex: u64) -> Option<&'static PortSlot> {
    let index = ifindex % u64::from(maps::PORT_SLOTS);
    PORTS.get(index as u32).filter(|slot| u64::from(slot.ifindex) == ifindex)
}

/// The slot in force for an interface.
#[inline(always)]
pub(crate) fn port(ifindex: u32) -> Option<&'static PortSlot> {
    if let Some(slot) = inline_port(u64::from(ifindex)) {
        return Some(slot);
    }
    // SAFETY: slots are replaced whole and never freed while a program runs (RCU).
    unsafe { PORT_OVERFLOW.get(ifindex) }
}

/// The entry of a sandboxed port, or of the inner end of a passage.
#[inline(always)]
pub(crate) fn passage_of(ifindex: u32) -> Option<Passage> {
    // SAFETY: entries are replaced whole and never changed in place.
    unsafe { SANDBOX.get(ifindex) }.copied()
}

/// The inner end of a port's passage.
#[inline(always)]
pub(crate) fn passage(ifindex: u32, instance: u32) -> Option<u32> {
    let passage = passage_of(ifindex)?;
    if passage.instance == instance { Some(passage.peer) } else { None }
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
