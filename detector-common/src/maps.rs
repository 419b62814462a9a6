//! Names and sizes of the pinned maps: the contract between the kernel programs, the daemon and the
//! inspection commands.

/// Version of everything in this crate that lives in a map. It names the pin directory, so that one
/// version never reads another's maps.
pub const SCHEMA_VERSION: u32 = 5;

/// `Array<Settings>`, one entry.
pub const SETTINGS: &str = "SETTINGS";
/// `Array<PortSlot>`, direct-mapped by `ifindex % PORT_SLOTS`.
pub const PORTS: &str = "PORTS";
/// `HashMap<u32 ifindex, PortSlot>`: interfaces whose slot in [`PORTS`] is taken.
pub const PORT_OVERFLOW: &str = "PORT_OVERFLOW";
/// `HashMap<GrantKey, Grant>`: identities beyond the inline one.
pub const GRANTS: &str = "GRANTS";
/// `LpmTrie<PrefixKey, Grant>`: prefixes beyond the inline ones.
pub const PREFIXES: &str = "PREFIXES";
/// `HashMap<QuarantineKey, QuarantineRecord>`.
pub const QUARANTINE: &str = "QUARANTINE";
/// `Array<Sighting>`, entry `port id * SIGHTINGS_PER_PORT + hash`.
pub const SIGHTINGS: &str = "SIGHTINGS";
/// `Array<Budget>`, by port id.
pub const BUDGETS: &str = "BUDGETS";
/// `PerCpuArray<PortCounters>`, by port id.
pub const COUNTERS: &str = "COUNTERS";
/// `RingBuf` of `Event`.
pub const EVENTS: &str = "EVENTS";
/// `HashMap<OwnerKey, Owner>`: who has an address that ports may learn.
pub const ADDRESS_OWNERS: &str = "ADDRESS_OWNERS";
/// `Array<Place>`, entry `port id * LEARNED_PER_PORT + n`: the addresses that a port has learned.
pub const LEARNED: &str = "LEARNED";
/// `Array<Transaction>`, entry `port id * TRANSACTIONS_PER_PORT + n`.
pub const DHCP_TRANSACTIONS: &str = "DHCP_TRANSACTIONS";

/// `HashMap<RouterKey, Router>`: routers that somebody who is trusted has named.
pub const ROUTERS: &str = "ROUTERS";
/// `HashMap<Station, MacOwner>`: MACs that nobody brings in by an uplink.
pub const MAC_OWNERS: &str = "MAC_OWNERS";
/// `HashMap<u32 ifindex, Passage>`: sandboxed ports, and the inner ends of their passages.
pub const SANDBOX: &str = "SANDBOX";
/// `HashMap<Service, u32>`: what ports in the sandbox may reach there, where that is limited.
pub const SERVICES: &str = "SERVICES";

/// Every map, in the order above.
pub const ALL: &[&str] = &[
    SETTINGS,
    PORTS,
    PORT_OVERFLOW,
    GRANTS,
    PREFIXES,
    QUARANTINE,
    SIGHTINGS,
    BUDGETS,
    COUNTERS,
    EVENTS,
    MAC_OWNERS,
    SANDBOX,
    SERVICES,
    ADDRESS_OWNERS,
    LEARNED,
    DHCP_TRANSACTIONS,
    ROUTERS,
];

/// Slots of [`PORTS`]; a power of two.
pub const PORT_SLOTS: u32 = 4096;
/// Ports, bridges and uplinks that can be guarded at a time: the range of port ids.
pub const MAX_PORTS: u32 = 1024;
pub const MAX_GRANTS: u32 = 131_072;
pub const MAX_PREFIXES: u32 = 16_384;
pub const MAX_QUARANTINES: u32 = 4096;
/// MACs on VLANs, of all ports together.
pub const MAX_MAC_OWNERS: u32 = 16_384;
/// Entries of [`SANDBOX`]: two for each port.
pub const MAX_PASSAGES: u32 = 2 * MAX_PORTS;
/// Entries of [`SERVICES`]: several for each service that is configured.
pub const MAX_SERVICES: u32 = 2048;
/// A power of two.
pub const SIGHTINGS_PER_PORT: u32 = 16;
/// Addresses that a port can have learned at a time, of both families.
pub const LEARNED_PER_PORT: u32 = 16;
/// DHCP transactions of a port that are waited for at a time.
pub const TRANSACTIONS_PER_PORT: u32 = 4;
/// Addresses that are protected: the host's, gateways', those granted as `exact`.
pub const MAX_PROTECTED: u32 = 32_768;
/// Routers that are protected for having been named, of all networks together.
pub const MAX_ROUTERS: u32 = 4096;
/// Entries of [`ADDRESS_OWNERS`]. Ports cannot fill it: each has its share, and so have routers.
pub const MAX_OWNERS: u32 = 2 * MAX_PORTS * LEARNED_PER_PORT + MAX_PROTECTED + MAX_ROUTERS;
/// Bytes of [`EVENTS`]; a power of two and whole pages.
pub const EVENT_BYTES: u32 = 256 * 1024;

/// Programs in the kernel object, by the name of their function.
pub mod programs {
    /// Guard, frames from the guest: tc ingress of the port.
    pub const PORT_INGRESS: &str = "port_ingress";
    /// Guard, frames to the guest: tc egress of the port.
    pub const PORT_EGRESS: &str = "port_egress";
    /// Gate, frames for the host: tc ingress of the bridge device.
    pub const BRIDGE_INGRESS: &str = "bridge_ingress";
    /// Gate, frames that the host sends or routes into the bridge: tc egress of the bridge device.
    pub const BRIDGE_EGRESS: &str = "bridge_egress";
    /// Frames from outside: tc ingress of the uplink.
    pub const UPLINK_INGRESS: &str = "uplink_ingress";
    /// Gate, frames out of the host: tc egress of the uplink.
    pub const UPLINK_EGRESS: &str = "uplink_egress";
    /// Guard, frames to the guest of an interface on a device of its own (macvtap): its tc ingress.
    /// What the guest sends is at its tc egress, where [`PORT_INGRESS`] judges it.
    pub const DEVICE_PORT_INGRESS: &str = "device_port_ingress";
    /// Frames from outside: tc ingress of a device that macvtaps are on.
    pub const DEVICE_INGRESS: &str = "device_ingress";
    /// Frames out of the host: tc egress of such a device, where only known senders speak out of it.
    pub const DEVICE_EGRESS: &str = "device_egress";
    /// Frames from the sandbox: tc ingress of the inner end of a passage.
    pub const PASSAGE_INGRESS: &str = "passage_ingress";
    /// Boundary of the sandbox, frames for the host: tc ingress of the sandbox's bridge device.
    pub const SANDBOX_INGRESS: &str = "sandbox_ingress";
    /// Boundary of the sandbox, frames from the host: tc egress of the sandbox's bridge device.
    pub const SANDBOX_EGRESS: &str = "sandbox_egress";
    /// Shield, frames from an isolated port that floods: native XDP of the port.
    pub const SHIELD: &str = "shield";
    /// Every program of traffic control.
    pub const ALL: &[&str] = &[
        PORT_INGRESS,
        PORT_EGRESS,
        BRIDGE_INGRESS,
        BRIDGE_EGRESS,
        UPLINK_INGRESS,
        UPLINK_EGRESS,
        DEVICE_PORT_INGRESS,
        DEVICE_INGRESS,
        DEVICE_EGRESS,
        PASSAGE_INGRESS,
        SANDBOX_INGRESS,
        SANDBOX_EGRESS,
    ];
}

const _: () = assert!(PORT_SLOTS.is_power_of_two());
const _: () = assert!(SIGHTINGS_PER_PORT.is_power_of_two());
// A ring is made of whole pages, of at most 64 KiB each.
const _: () = assert!(EVENT_BYTES.is_power_of_two() && EVENT_BYTES >= 64 << 10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counters, learned, port, quarantine, sandbox, services};

    /// Kernel memory of all maps must stay small enough for any host that runs VMs.
    #[test]
    fn memory_is_budgeted() {
        let entry = |count: u32, bytes: usize| count as usize * bytes;
        let hash_overhead = 56;
        let preallocated = entry(PORT_SLOTS, size_of::<port::PortSlot>())
            + entry(MAX_PORTS * SIGHTINGS_PER_PORT, size_of::<counters::Sighting>())
            + entry(MAX_PORTS, size_of::<counters::Budget>())
            + entry(MAX_PORTS * LEARNED_PER_PORT, size_of::<learned::Place>())
            + entry(MAX_PORTS * TRANSACTIONS_PER_PORT, size_of::<learned::Transaction>())
            + EVENT_BYTES as usize;
        assert!(preallocated < 3 << 20, "{preallocated} bytes are always taken");

        let each_cpu = entry(MAX_PORTS, size_of::<counters::PortCounters>());
        assert!(each_cpu < 2 << 20, "{each_cpu} bytes a CPU");

        let on_demand = entry(MAX_GRANTS, size_of::<port::GrantKey>() + 4 + hash_overhead)
            + entry(MAX_PREFIXES, size_of::<port::PrefixKey>() + 4 + hash_overhead)
            + entry(
                MAX_QUARANTINES,
                size_of::<quarantine::QuarantineRecord>() + 20 + hash_overhead,
            )
            + entry(MAX_MAC_OWNERS, size_of::<port::MacOwner>() + 8 + hash_overhead)
            + entry(MAX_PASSAGES, size_of::<sandbox::Passage>() + 4 + hash_overhead)
            + entry(MAX_SERVICES, size_of::<services::Service>() + 4 + hash_overhead)
            + entry(
                MAX_ROUTERS,
                size_of::<learned::RouterKey>() + size_of::<learned::Router>() + hash_overhead,
            )
            + entry(
                MAX_OWNERS,
                size_of::<learned::OwnerKey>() + size_of::<learned::Owner>() + hash_overhead,
            );
        assert!(on_demand < 24 << 20, "{on_demand} bytes when every map is full");
    }
}
