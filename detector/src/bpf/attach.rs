//! Programs on interfaces: attached, replaced, found again, taken off.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs, io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::programs::{
    TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use detector_common::maps::{SCHEMA_VERSION, programs};
use nix::{errno::Errno, net::if_::if_indextoname};

use super::{
    BpfError, Hook, Pins,
    links::Links,
    load::{Programs, borrowed},
    sys,
};
use crate::net::{Direction, Filter, Tc};

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A pinned TCX link (Linux 6.6).
    Tcx,
    /// A filter on a clsact qdisc.
    Clsact,
}

impl Method {
    /// Attaches a program ahead of all others, or, where our link is alive, replaces the program in
    /// it without a gap.
    pub(super) fn attach(
        self,
        programs: &mut Programs,
        program: &str,
        pins: &Pins,
        ifindex: u32,
        hook: Hook,
    ) -> Result<(), BpfError> {
        let what = format!("attach {program} to the {} of interface {ifindex}", hook.as_str());
        match self {
            Self::Tcx => attach_tcx(programs, program, pins, ifindex, hook, what),
            Self::Clsact => attach_clsact(programs, program, ifindex, hook, what),
        }
    }

    /// Where a program of ours is on this interface of this network namespace. It went on with the
    /// interface, so if it is there, the interface is the one that it was attached to.
    pub(super) fn standing(
        self,
        links: &Links,
        pins: &Pins,
        ifindex: u32,
        hook: Hook,
        program: &str,
    ) -> Result<Standing, BpfError> {
        match self {
            Self::Tcx => match links.standing(ifindex, hook)? {
                Some(standing) => Ok(standing),
                None if tcx_alive(pins.paths(), ifindex, hook)? => Ok(Standing::First),
                None => Ok(Standing::Absent),
            },
            Self::Clsact => clsact_standing(ifindex, hook, program),
        }
    }

    /// Puts a program that runs behind others ahead of them. `spare` is a second copy of the programs.
    ///
    /// On a clsact qdisc the filter is off for the microseconds in between; what a port sends then
    /// lacks the stamp.
    pub(super) fn overtake(
        self,
        programs: &mut Programs,
        spare: &mut Programs,
        program: &str,
        pins: &Pins,
        ifindex: u32,
        hook: Hook,
    ) -> Result<(), BpfError> {
        match self {
            Self::Tcx => overtake_tcx([programs, spare], program, pins, ifindex, hook),
            Self::Clsact => {
                take_off(&name_of(ifindex)?, hook, CLSACT_HANDLE)?;
                self.attach(programs, program, pins, ifindex, hook)
            }
        }
    }

    /// Takes off what is ours. What is not there is off already.
    pub(super) fn detach(self, pins: &Pins, ifindex: u32) -> Result<(), BpfError> {
        for hook in Hook::BOTH {
            remove_pin(pins, ifindex, hook)?;
        }
        if self == Self::Clsact { detach_clsact(ifindex) } else { Ok(()) }
    }
}

/// Where a program of ours stands among those of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It runs before all others.
    First,
    /// So many run before it.
    Behind(usize),
    /// It is not there, or the interface is not.
    Absent,
}

impl Standing {
    pub(super) fn of(place: Option<usize>) -> Self {
        match place {
            Some(0) => Self::First,
            Some(others) => Self::Behind(others),
            None => Self::Absent,
        }
    }
}

/// Whether our pinned link is alive on this interface of this network namespace. An interface that
/// went has left its pin behind; one that moved to another namespace is not on our list.
pub(super) fn tcx_alive(
    paths: &super::PinPaths,
    ifindex: u32,
    hook: Hook,
) -> Result<bool, BpfError> {
    let path = paths.link(ifindex, hook);
    let look = || -> io::Result<bool> {
        let link = match sys::open_pin(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            link => sys::describe(link?.as_fd())?,
        };
        if link.ifindex != ifindex {
            return Ok(false);
        }
        match sys::links_on(ifindex, hook) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(false),
            links => links.map(|ids| ids.contains(&link.id)),
        }
    };
    look().map_err(BpfError::failed(format!("look at the pinned link {}", path.display())))
}

/// A filter is ours by its priority, the last digits of its handle, and its name. The rest of the handle is the map
/// schema, so that filters of two schemas stand beside each other. Of one priority the kernel runs the newest first, and
/// goes on to the next one after `TC_ACT_UNSPEC` (`net/sched/cls_bpf.c`).
const CLSACT_PRIORITY: u16 = 1;
const CLSACT_MARK: u32 = 0xde7;
const CLSACT_MARK_BITS: u32 = 12;
const CLSACT_HANDLE: u32 = SCHEMA_VERSION << CLSACT_MARK_BITS | CLSACT_MARK;

fn attach_tcx(
    programs: &mut Programs,
    program: &str,
    pins: &Pins,
    ifindex: u32,
    hook: Hook,
    what: String,
) -> Result<(), BpfError> {
    let path = pins.paths().link(ifindex, hook);
    let alive = tcx_alive(pins.paths(), ifindex, hook)?;
    if !alive {
        remove_pin(pins, ifindex, hook)?;
    }
    let program = borrowed(programs.fd(program)?);
    let attach = || {
        if alive {
            return sys::replace(sys::open_pin(&path)?.as_fd(), program);
        }
        let link = sys::attach_first(program, ifindex, hook)?;
        sys::pin(link.as_fd(), &path)
    };
    attach().map_err(BpfError::failed(what))
}

fn remove_pin(pins: &Pins, ifindex: u32, hook: Hook) -> Result<(), BpfError> {
    for path in [pins.paths().link(ifindex, hook), pins.paths().new_link(ifindex, hook)] {
        // Without the pin alone the program would run on for a moment. A link whose interface is gone
        // has nothing to be taken off.
        if let Ok(link) = sys::open_pin(&path) {
            let _ = sys::detach(link.as_fd());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BpfError::failed(format!("remove the pin {}", path.display()))(error));
            }
            _ => (),
        }
    }
    Ok(())
}

/// Attaches the program ahead of all others once more, and then takes off the link that was behind:
/// there is no instant without a program of ours. The kernel has no call that moves a link, and runs
/// no program twice on one hook, hence two copies.
fn overtake_tcx(
    copies: [&mut Programs; 2],
    program: &str,
    pins: &Pins,
    ifindex: u32,
    hook: Hook,
) -> Result<(), BpfError> {
    let what = format!("put {program} first on the {} of interface {ifindex}", hook.as_str());
    let paths = pins.paths();
    let mut link = Err(io::Error::from_raw_os_error(libc::EEXIST));
    for copy in copies {
        link = sys::attach_first(borrowed(copy.fd(program)?), ifindex, hook);
        if !matches!(&link, Err(error) if error.raw_os_error() == Some(libc::EEXIST)) {
            break;
        }
    }
    let replace = |link: io::Result<OwnedFd>| -> io::Result<()> {
        replace_pin(link?.as_fd(), &paths.new_link(ifindex, hook), &paths.link(ifindex, hook))
    };
    replace(link).map_err(BpfError::failed(what))
}

/// Puts the pin of an object in the place of whatever has that name, in one step.
pub(super) fn replace_pin(object: BorrowedFd<'_>, new: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => sys::pin(object, new)?,
    }
    fs::rename(new, path)
}

fn attach_clsact(
    programs: &mut Programs,
    program: &str,
    ifindex: u32,
    hook: Hook,
    what: String,
) -> Result<(), BpfError> {
    let name = name_of(ifindex)?;
    ensure_clsact(ifindex, &name)?;
    let there = own_filters(ifindex, hook)?;
    let classifier = programs.get(program)?;
    let handle = TcHandle::from(CLSACT_HANDLE);
    let attached = if there.is_empty() {
        let options = NlOptions { priority: CLSACT_PRIORITY, handle, ..NlOptions::default() };
        classifier.attach_with_options(&name, attach_type(hook), TcAttachOptions::Netlink(options))
    } else {
        let link =
            SchedClassifierLink::attached(&name, attach_type(hook), CLSACT_PRIORITY, handle, None);
        classifier.attach_to_link(link.map_err(BpfError::failed(what.clone()))?)
    };
    let id = attached.map_err(BpfError::failed(what.clone()))?;
    // The filter has to outlive this process, and dropping aya's link would take it off.
    mem::forget(classifier.take_link(id).map_err(BpfError::failed(what))?);
    // aya attaches by name; what it attached to is only known afterwards.
    if own_filters(ifindex, hook)?.is_empty() {
        return Err(BpfError::Refused(format!(
            "interface {name} became another one while a program was being attached to it"
        )));
    }
    Ok(())
}

/// A classifier on the egress of an `ingress` qdisc is accepted, and runs at ingress.
fn ensure_clsact(ifindex: u32, name: &str) -> Result<(), BpfError> {
    match Tc::open()?.clsact_kind(ifindex)?.as_deref() {
        Some("clsact") => Ok(()),
        None => qdisc_add_clsact(name)
            .map_err(BpfError::failed(format!("add a clsact qdisc to {name}"))),
        Some(other) => Err(BpfError::Refused(format!(
            "{name} has a qdisc of kind {other:?} where a guard needs clsact, as libvirt's \
             <bandwidth> makes one: this kernel has no TCX, and the two exclude each other. Remove it \
             with `tc qdisc del dev {name} {other}`, or run Linux 6.6 or newer"
        ))),
    }
}

/// Where the filter of ours with that program is on the interface. Filters are listed in the order in
/// which they run; one of another kind cannot have the same priority, and none has a lower one.
pub(super) fn clsact_standing(
    ifindex: u32,
    hook: Hook,
    program: &str,
) -> Result<Standing, BpfError> {
    let filters = Tc::open()?.filters(ifindex, direction(hook))?;
    let is_ours = |filter: &Filter| is_own(filter) && filter.name == program.as_bytes();
    Ok(Standing::of(filters.iter().position(is_ours)))
}

fn detach_clsact(ifindex: u32) -> Result<(), BpfError> {
    take_filters_off(ifindex, &Hook::BOTH, |schema| schema == SCHEMA_VERSION)
}

/// Takes off the filters that are ours and of such a schema, and the qdisc too when nothing else hangs on it: it
/// stands in the way of an `ingress` qdisc.
pub(super) fn take_filters_off(
    ifindex: u32,
    hooks: &[Hook],
    which: impl Fn(u32) -> bool,
) -> Result<(), BpfError> {
    let Ok(name) = name_of(ifindex) else { return Ok(()) };
    let mut tc = Tc::open()?;
    if tc.clsact_kind(ifindex)?.as_deref() != Some("clsact") {
        return Ok(());
    }
    let mut is_ours = false;
    for hook in hooks {
        for filter in tc.filters(ifindex, direction(*hook))? {
            if schema_of(&filter).is_some_and(&which) {
                take_off(&name, *hook, filter.handle)?;
                is_ours = true;
            }
        }
    }
    let mut is_used = false;
    for hook in Hook::BOTH {
        is_used |= tc.has_filters(ifindex, direction(hook))?;
    }
    // A qdisc that nothing of ours was on is somebody else's, and so is one with a filter of whatever kind.
    if is_ours && !is_used { Ok(tc.remove_clsact(ifindex)?) } else { Ok(()) }
}

/// How many filters of others are on the interface.
pub(super) fn foreign_filters(ifindex: u32, hook: Hook) -> Result<usize, BpfError> {
    let filters = Tc::open()?.filters(ifindex, direction(hook))?;
    Ok(filters.iter().filter(|filter| schema_of(filter).is_none()).count())
}

/// The map schemas that filters on the interface are of.
pub(super) fn filtered(ifindex: u32) -> Result<BTreeSet<u32>, BpfError> {
    let mut schemas = BTreeSet::new();
    for hook in Hook::BOTH {
        let filters = Tc::open()?.filters(ifindex, direction(hook))?;
        schemas.extend(filters.iter().filter_map(schema_of));
    }
    Ok(schemas)
}

fn take_off(name: &str, hook: Hook, handle: u32) -> Result<(), BpfError> {
    let handle = TcHandle::from(handle);
    // Dropping it takes it off.
    SchedClassifierLink::attached(name, attach_type(hook), CLSACT_PRIORITY, handle, None)
        .map(drop)
        .map_err(BpfError::failed(format!("take the filter off {name}")))
}

fn own_filters(ifindex: u32, hook: Hook) -> Result<Vec<Filter>, BpfError> {
    let mut filters = Tc::open()?.filters(ifindex, direction(hook))?;
    filters.retain(is_own);
    Ok(filters)
}

fn is_own(filter: &Filter) -> bool {
    schema_of(filter) == Some(SCHEMA_VERSION)
}

/// The map schema that a filter of ours is of, by whatever release; `None` of one that is not ours.
fn schema_of(filter: &Filter) -> Option<u32> {
    let is_ours = filter.priority == CLSACT_PRIORITY
        && filter.handle & ((1 << CLSACT_MARK_BITS) - 1) == CLSACT_MARK
        && programs::ALL.iter().any(|name| filter.name == name.as_bytes());
    is_ours.then_some(filter.handle >> CLSACT_MARK_BITS)
}

/// The name of an interface. nix takes the null for one that is gone for an empty name.
pub(super) fn interface_name(ifindex: u32) -> Result<CString, Errno> {
    let name = if_indextoname(ifindex)?;
    if name.is_empty() { Err(Errno::ENODEV) } else { Ok(name) }
}

fn name_of(ifindex: u32) -> Result<String, BpfError> {
    let name = interface_name(ifindex).map_err(|errno| {
        BpfError::failed(format!("find interface {ifindex}"))(match errno {
            Errno::ENXIO => Errno::ENODEV,
            errno => errno,
        })
    })?;
    name.into_string().map_err(|_| {
        BpfError::Refused(format!(
            "interface {ifindex} has a name that is no UTF-8, and this kernel has no TCX: rename it \
             with `ip link set`"
        ))
    })
}

const fn attach_type(hook: Hook) -> TcAttachType {
    match hook {
        Hook::Ingress => TcAttachType::Ingress,
        Hook::Egress => TcAttachType::Egress,
    }
}

const fn direction(hook: Hook) -> Direction {
    match hook {
        Hook::Ingress => Direction::Ingress,
        Hook::Egress => Direction::Egress,
    }
}
