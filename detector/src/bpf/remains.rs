//! All that this program has put on a host, by whatever release, and how it is taken away.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use detector_common::{
    maps::SCHEMA_VERSION,
    settings::{Mode, Settings},
};

use super::{
    BpfError, Hook, PinPaths, Pins,
    attach::{filtered, interface_name, take_filters_off},
    holder,
    maps::Maps,
    object, schema, sys,
};
use crate::net::{Forwarding, ForwardingEntry, Passages, inner_ends, links};

/// What is left to be taken away. Of other releases it knows what all of them have in common: that links
/// are pinned in `links` and maps in `maps` of a directory that is named by the schema version, and the
/// names of links, which begin with the interface's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Schema versions that something is pinned of.
    pub versions: BTreeSet<u32>,
    /// The process that holds the pins: the daemon, when one runs.
    pub holder: Option<u32>,
    /// Pinned links.
    pub links: Vec<PinnedLink>,
    /// Pinned maps.
    pub maps: Vec<PathBuf>,
    /// Interfaces with filters of ours on a clsact qdisc.
    pub filters: BTreeMap<u32, String>,
    /// Interfaces that are inner ends of passages to the sandbox.
    pub passages: BTreeMap<u32, String>,
    /// `static sticky` forwarding entries on interfaces that programs of ours are on.
    pub forwarding: Vec<(String, ForwardingEntry)>,
    /// Quarantines that end; of this release only.
    pub quarantines: usize,
    /// What is pinned beside it and not known: it stays, and with it its directory.
    pub unknown: Vec<PathBuf>,
}

/// A link of a program to an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinnedLink {
    pub path: PathBuf,
    pub ifindex: u32,
    /// `ingress`, `egress` or `shield`.
    pub hook: String,
    /// The interface's name; `None` when it is gone.
    pub interface: Option<String>,
}

impl Remains {
    /// Looks, and changes nothing.
    pub fn find(root: &Path) -> Result<Self, BpfError> {
        let mut found = Self { holder: holder(root), ..Self::default() };
        for path in list(root)? {
            match version_of(&path) {
                Some(version) => found.look_into(version, &path)?,
                None => found.unknown.push(path),
            }
        }
        let named =
            |ifindex| interface_name(ifindex).ok().map(|n| n.to_string_lossy().into_owned());
        for link in links()? {
            if !filtered(link.ifindex)?.is_empty() {
                found.filters.insert(link.ifindex, link.name);
            }
        }
        for inner in inner_ends()? {
            found.passages.insert(inner, named(inner).unwrap_or_else(|| format!("#{inner}")));
        }
        let mut guarded: BTreeSet<u32> = found.links.iter().map(|link| link.ifindex).collect();
        guarded.extend(found.filters.keys());
        for entry in Forwarding::open()?.list()? {
            if guarded.contains(&entry.ifindex)
                && let Some(name) = named(entry.ifindex)
            {
                found.forwarding.push((name, entry));
            }
        }
        if found.versions.contains(&SCHEMA_VERSION) {
            let paths = PinPaths::new(root);
            if let Ok(maps) = ours(&paths) {
                found.quarantines = maps.quarantines()?.len();
            }
        }
        Ok(found)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
            && self.filters.is_empty()
            && self.passages.is_empty()
            && self.unknown.is_empty()
    }

    /// Takes everything away that is there now, and returns what that was. First nothing is refused any
    /// more, then programs go, so that no frame of a guest that was granted is lost meanwhile.
    ///
    /// # Errors
    ///
    /// [`BpfError::Locked`] when a daemon runs; then nothing has been touched.
    pub fn remove(root: &Path) -> Result<Self, BpfError> {
        // Also where nothing is pinned: filters and passages may be there without.
        let lock = root.exists().then(|| Pins::claim_any(root)).transpose()?;
        let found = Self { holder: None, ..Self::find(root)? };
        if found.versions.contains(&SCHEMA_VERSION) {
            observe(&PinPaths::new(root))?;
        }
        let mut passages = Passages::open()?;
        found.passages.keys().try_for_each(|inner| passages.remove(*inner))?;
        found.take_links_off()?;
        let all = |ifindex: &u32| take_filters_off(*ifindex, &Hook::BOTH, |_| true);
        found.filters.keys().try_for_each(all)?;
        let mut forwarding = Forwarding::open()?;
        found.forwarding.iter().try_for_each(|(_, entry)| forwarding.remove(*entry))?;
        found.unpin_maps(root)?;
        if found.unknown.is_empty() {
            remove_empty(root)?;
        }
        drop(lock);
        Ok(found)
    }

    fn take_links_off(&self) -> Result<(), BpfError> {
        for hook in [Hook::Egress.as_str(), Hook::Ingress.as_str()] {
            let of_hook = |link: &&PinnedLink| link.hook.starts_with(hook);
            self.links.iter().filter(of_hook).try_for_each(PinnedLink::take_off)?;
        }
        self.links.iter().try_for_each(PinnedLink::take_off)
    }

    /// Also removes the directories that are empty then.
    fn unpin_maps(&self, root: &Path) -> Result<(), BpfError> {
        self.maps.iter().try_for_each(|path| unpin(path))?;
        for version in &self.versions {
            let directory = root.join(version.to_string());
            for inner in ["links", "maps", ""] {
                remove_empty(&directory.join(inner))?;
            }
        }
        Ok(())
    }

    fn look_into(&mut self, version: u32, directory: &Path) -> Result<(), BpfError> {
        self.versions.insert(version);
        for path in list(directory)? {
            match path.file_name().and_then(|name| name.to_str()) {
                Some("links") => {
                    for path in list(&path)? {
                        match PinnedLink::of(&path) {
                            Some(link) => self.links.push(link),
                            None => self.unknown.push(path),
                        }
                    }
                }
                Some("maps") => self.maps.extend(list(&path)?),
                _ => self.unknown.push(path),
            }
        }
        Ok(())
    }
}

/// The map schema of filters from before their handles named one.
const UNNAMED: u32 = 0;

/// The other map schemas that programs are in force of. Their shields go at once: there is one place for an XDP
/// program, and they only spare work. So does what is left of one without any program.
pub(super) fn predecessors(pins: &Pins) -> Result<BTreeSet<u32>, BpfError> {
    let mut alive = BTreeSet::new();
    for link in links()? {
        alive.extend(filtered(link.ifindex)?);
    }
    alive.remove(&SCHEMA_VERSION);
    let mut versions = alive.clone();
    for path in list(pins.paths().root())? {
        versions.extend(version_of(&path).filter(|version| *version != SCHEMA_VERSION));
    }
    for version in versions {
        let one = BTreeSet::from([version]);
        let (shields, guards): (Vec<_>, Vec<_>) =
            of(pins, &one)?.links.into_iter().partition(|link| link.hook == "shield");
        shields.iter().try_for_each(PinnedLink::take_off)?;
        if guards.iter().any(|link| link.interface.is_some()) {
            alive.insert(version);
        } else if alive.contains(&UNNAMED) {
            // Its maps may be those of filters that do not say whose they are.
            alive.insert(version);
        } else if !alive.contains(&version) {
            end(pins, &one)?;
        }
    }
    Ok(alive)
}

/// Takes off what is in force of these map schemas.
pub(super) fn end(pins: &Pins, versions: &BTreeSet<u32>) -> Result<(), BpfError> {
    let found = of(pins, versions)?;
    found.take_links_off()?;
    for hook in [Hook::Egress, Hook::Ingress] {
        for ifindex in filtered_by(versions)? {
            take_filters_off(ifindex, &[hook], |schema| versions.contains(&schema))?;
        }
    }
    if let Some(ifindex) = filtered_by(versions)?.first() {
        let why = format!("filters of another map schema stay on interface {ifindex}");
        return Err(BpfError::Refused(why));
    }
    found.unpin_maps(pins.paths().root())
}

/// Interfaces with filters of these map schemas.
fn filtered_by(versions: &BTreeSet<u32>) -> Result<Vec<u32>, BpfError> {
    let mut found = Vec::new();
    for link in links()? {
        if !filtered(link.ifindex)?.is_disjoint(versions) {
            found.push(link.ifindex);
        }
    }
    Ok(found)
}

fn of(pins: &Pins, versions: &BTreeSet<u32>) -> Result<Remains, BpfError> {
    let mut found = Remains::default();
    for version in versions {
        found.look_into(*version, &pins.paths().root().join(version.to_string()))?;
    }
    Ok(found)
}

impl PinnedLink {
    fn of(path: &Path) -> Option<Self> {
        let (ifindex, hook) = path.file_name()?.to_str()?.split_once('-')?;
        let ifindex = ifindex.parse().ok()?;
        let interface = interface_name(ifindex).ok();
        Some(Self {
            path: path.to_owned(),
            ifindex,
            hook: hook.to_owned(),
            interface: interface.map(|name| name.to_string_lossy().into_owned()),
        })
    }

    /// Without the pin alone the program would run on for a moment. A link whose interface is gone has
    /// nothing to be taken off.
    fn take_off(&self) -> Result<(), BpfError> {
        if let Ok(link) = sys::open_pin(&self.path) {
            let _ = sys::detach(link.as_fd());
        }
        unpin(&self.path)
    }
}

/// The maps of this release, if what is pinned is of its shape.
fn ours(paths: &PinPaths) -> Result<Maps, BpfError> {
    schema::check(paths, &schema::expected(object::bytes())?)?;
    Maps::open(paths)
}

/// Lets every frame go on from now on. Where the settings cannot be read there is nothing to be lost.
fn observe(paths: &PinPaths) -> Result<(), BpfError> {
    let Ok(mut maps) = ours(paths) else { return Ok(()) };
    let settings = maps.settings()?;
    maps.write_settings(Settings { mode: Mode::Observe as u32, ..settings })
}

fn version_of(path: &Path) -> Option<u32> {
    let version = path.file_name()?.to_str()?.parse().ok()?;
    path.is_dir().then_some(version)
}

/// The entries of a directory, in the order of their names; none of one that is not there.
fn list(directory: &Path) -> Result<Vec<PathBuf>, BpfError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut found: Vec<_> = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => {
                entries?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?
            }
        };
        found.sort();
        Ok(found)
    };
    read().map_err(BpfError::failed(format!("list {}", directory.display())))
}

fn unpin(path: &Path) -> Result<(), BpfError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BpfError::failed(format!("remove the pin {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

fn remove_empty(directory: &Path) -> Result<(), BpfError> {
    match fs::remove_dir(directory) {
        // Something unknown is in it, which has been told.
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(BpfError::failed(format!("remove the directory {}", directory.display()))(error))
        }
        _ => Ok(()),
    }
}
