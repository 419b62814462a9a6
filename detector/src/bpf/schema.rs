//! Whether the maps that are pinned are the maps that this program means. The loader takes over
//! whatever is pinned under a map's name, of whatever size, so this is looked at first.

use std::{collections::BTreeMap, fmt};

use aya::maps::{MapInfo, MapType};
use aya_obj::{Object, generated::bpf_map_type};
use detector_common::maps;

use super::{BpfError, PinPaths};

/// What two maps must have in common to be the same to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) kind: u32,
    pub(super) key_bytes: u32,
    pub(super) value_bytes: u32,
    pub(super) entries: u32,
    pub(super) flags: u32,
}

/// The shapes of the maps in a kernel object, by name.
pub(super) fn expected(object: &[u8]) -> Result<BTreeMap<&'static str, Shape>, BpfError> {
    let object = Object::parse(object).map_err(BpfError::failed("read the kernel object"))?;
    let shape = |name: &'static str| {
        let map = object.maps.get(name).ok_or_else(|| {
            BpfError::Refused(format!(
                "the kernel object has no map {name}: it is of another build"
            ))
        })?;
        let shape = Shape {
            kind: map.map_type(),
            key_bytes: map.key_size(),
            value_bytes: map.value_size(),
            entries: map.max_entries(),
            flags: map.map_flags(),
        };
        Ok((name, shape))
    };
    maps::ALL.iter().map(|name| shape(name)).collect()
}

/// Compares what is pinned with what is expected, and changes nothing. A map that is not pinned yet
/// is as good as one that fits.
///
/// # Errors
///
/// Names the first map that differs, what it is and what it should be.
pub(super) fn check(
    paths: &PinPaths,
    expected: &BTreeMap<&'static str, Shape>,
) -> Result<(), BpfError> {
    for (name, shape) in expected {
        let path = paths.map(name);
        if !path.exists() {
            continue;
        }
        let found = MapInfo::from_pin(&path)
            .and_then(|info| Shape::of(&info))
            .map_err(BpfError::failed(format!("look at the pinned map {}", path.display())))?;
        if found != *shape {
            return Err(BpfError::Shape {
                path,
                found: found.to_string(),
                expected: shape.to_string(),
            });
        }
    }
    Ok(())
}

impl Shape {
    fn of(info: &MapInfo) -> Result<Self, aya::maps::MapError> {
        Ok(Self {
            kind: info.map_type()? as u32,
            key_bytes: info.key_size(),
            value_bytes: info.value_size(),
            entries: info.max_entries(),
            flags: info.map_flags(),
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key_bytes, value_bytes, entries, flags } = self;
        match bpf_map_type::try_from(*kind).ok().and_then(|kind| MapType::try_from(kind).ok()) {
            Some(kind) => write!(f, "{kind:?}")?,
            None => write!(f, "map type {kind}")?,
        }
        write!(f, " of {entries} entries, key {key_bytes} and value {value_bytes} bytes")?;
        write!(f, ", flags {flags:#x}")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use aya::maps::{Array, Map, MapData};
    use detector_common::{
        addr::Station,
        counters::{Budget, PortCounters, Sighting},
        learned::{Owner, OwnerKey, Place, Router, RouterKey, Transaction},
        port::{Grant, GrantKey, MacOwner, PortSlot, PrefixKey},
        quarantine::{QuarantineKey, QuarantineRecord},
        sandbox::Passage,
        services::Service,
        settings::Settings,
    };

    use super::*;
    use crate::bpf::{enforcer::testing::PinRoot, object};

    /// The contract of `detector_common::maps`, once more, against the object that was built.
    #[test]
    fn the_object_keeps_the_contract() {
        let expected = expected(object::bytes()).unwrap();
        let ports = maps::MAX_PORTS;
        let contract = [
            (maps::SETTINGS, MapType::Array, 4, size_of::<Settings>(), 1),
            (maps::PORTS, MapType::Array, 4, size_of::<PortSlot>(), maps::PORT_SLOTS),
            (maps::PORT_OVERFLOW, MapType::Hash, 4, size_of::<PortSlot>(), ports),
            (
                maps::GRANTS,
                MapType::Hash,
                size_of::<GrantKey>(),
                size_of::<Grant>(),
                maps::MAX_GRANTS,
            ),
            (
                maps::PREFIXES,
                MapType::LpmTrie,
                4 + size_of::<PrefixKey>(),
                size_of::<Grant>(),
                maps::MAX_PREFIXES,
            ),
            (
                maps::QUARANTINE,
                MapType::Hash,
                size_of::<QuarantineKey>(),
                size_of::<QuarantineRecord>(),
                maps::MAX_QUARANTINES,
            ),
            (
                maps::SIGHTINGS,
                MapType::Array,
                4,
                size_of::<Sighting>(),
                ports * maps::SIGHTINGS_PER_PORT,
            ),
            (maps::BUDGETS, MapType::Array, 4, size_of::<Budget>(), ports),
            (maps::COUNTERS, MapType::PerCpuArray, 4, size_of::<PortCounters>(), ports),
            (maps::EVENTS, MapType::RingBuf, 0, 0, maps::EVENT_BYTES),
            (
                maps::MAC_OWNERS,
                MapType::Hash,
                size_of::<Station>(),
                size_of::<MacOwner>(),
                maps::MAX_MAC_OWNERS,
            ),
            (maps::SANDBOX, MapType::Hash, 4, size_of::<Passage>(), maps::MAX_PASSAGES),
            (maps::SERVICES, MapType::Hash, size_of::<Service>(), 4, maps::MAX_SERVICES),
            (
                maps::ADDRESS_OWNERS,
                MapType::Hash,
                size_of::<OwnerKey>(),
                size_of::<Owner>(),
                maps::MAX_OWNERS,
            ),
            (maps::LEARNED, MapType::Array, 4, size_of::<Place>(), ports * maps::LEARNED_PER_PORT),
            (
                maps::DHCP_TRANSACTIONS,
                MapType::Array,
                4,
                size_of::<Transaction>(),
                ports * maps::TRANSACTIONS_PER_PORT,
            ),
            (
                maps::ROUTERS,
                MapType::Hash,
                size_of::<RouterKey>(),
                size_of::<Router>(),
                maps::MAX_ROUTERS,
            ),
        ];
        assert_eq!(contract.len(), expected.len());
        for (name, kind, key, value, entries) in contract {
            let shape = expected[name];
            let found = (shape.kind, shape.key_bytes as usize, shape.value_bytes as usize);
            assert_eq!(found, (kind as u32, key, value), "{name}: {shape}");
            assert_eq!(shape.entries, entries, "{name}");
        }
    }

    /// Whichever map it is, and whatever about it differs, it is not taken over.
    #[test]
    fn each_map_is_looked_at() {
        let root = PinRoot::new();
        let paths = PinPaths::new(root.path());
        fs::create_dir_all(paths.maps()).unwrap();
        let expected = expected(object::bytes()).unwrap();
        assert_eq!(expected.len(), maps::ALL.len());
        for name in maps::ALL {
            let foreign = Array::<MapData, u16>::create(3, 0).unwrap();
            foreign.pin(paths.map(name)).unwrap();
            let error = check(&paths, &expected).unwrap_err().to_string();
            assert!(error.contains(&paths.map(name).display().to_string()), "{name}: {error}");
            fs::remove_file(paths.map(name)).unwrap();
        }
        check(&paths, &expected).unwrap();

        let settings = u32::try_from(size_of::<Settings>()).unwrap();
        let right = expected[maps::SETTINGS];
        let pinned = Array::<MapData, [u8; size_of::<Settings>()]>::create(1, 0).unwrap();
        pinned.pin(paths.map(maps::SETTINGS)).unwrap();
        check(&paths, &expected).unwrap();
        assert_eq!(right.value_bytes, settings);
        for (what, wrong) in [
            ("kind", Shape { kind: right.kind + 1, ..right }),
            ("key", Shape { key_bytes: 8, ..right }),
            ("value", Shape { value_bytes: settings + 8, ..right }),
            ("entries", Shape { entries: 2, ..right }),
            ("flags", Shape { flags: 1, ..right }),
        ] {
            let error = check(&paths, &[(maps::SETTINGS, wrong)].into()).unwrap_err();
            assert!(matches!(error, BpfError::Shape { .. }), "{what}: {error}");
        }
    }

    #[test]
    fn a_map_of_another_shape_is_refused_untouched() {
        let root = PinRoot::new();
        let paths = PinPaths::new(root.path());
        fs::create_dir_all(paths.maps()).unwrap();
        let expected = expected(object::bytes()).unwrap();
        check(&paths, &expected).unwrap();

        let mut wrong = Array::<MapData, u64>::create(1, 0).unwrap();
        wrong.set(0, 42_u64, 0).unwrap();
        wrong.pin(paths.map(maps::SETTINGS)).unwrap();

        let error = check(&paths, &expected).unwrap_err().to_string();
        for part in ["SETTINGS", "value 8 bytes", "value 288 bytes", "detach --all"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let pinned = Map::from_map_data(MapData::from_pin(paths.map(maps::SETTINGS)).unwrap());
        let kept = Array::<_, u64>::try_from(pinned.unwrap()).unwrap();
        assert_eq!(kept.get(&0, 0).unwrap(), 42);
    }
}
