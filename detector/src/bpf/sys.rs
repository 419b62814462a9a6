//! The bpf(2) calls on TCX links that aya makes by interface name. A name may mean another interface
//! by the time of the call, and may be no UTF-8; here the interface is its index.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{
    BPF_F_BEFORE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type,
};

use detector_common::MapData;

use super::pins::Hook;

/// What the kernel says of a TCX link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcxLink {
    pub(super) id: u32,
    /// 0 once the interface is gone.
    pub(super) ifindex: u32,
}

/// Puts entries into a hash map, all in one call (Linux 5.6). Stops at the first that the map has no
/// room for.
pub(super) fn put_all<K: MapData, V: MapData>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    let count = u32::try_from(keys.len()).map_err(io::Error::other)?;
    if count == 0 {
        return Ok(());
    }
    let mut attr = zeroed();
    attr.batch.map_fd = fd_number(map);
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.values = values.as_ptr() as u64;
    attr.batch.count = count;
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(|_| ())
}

/// Attaches a program ahead of all others on the interface.
pub(super) fn attach_first(
    program: BorrowedFd<'_>,
    ifindex: u32,
    hook: Hook,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = fd_number(program);
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = attach_type(hook);
    // Before nothing in particular is before everything.
    attr.link_create.flags = BPF_F_BEFORE;
    bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Replaces the program of a link; at every instant the old or the new one runs.
pub(super) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_update.link_fd = fd_number(link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = fd_number(program);
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(|_| ())
}

pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = fd_number(object);
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(|_| ())
}

pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Describes a TCX link; any other kind of object is an error.
pub(super) fn describe(link: BorrowedFd<'_>) -> io::Result<TcxLink> {
    // SAFETY: integers only, for which zero is a value.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = fd_number(link);
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_TCX as u32 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the pin is no TCX link"));
    }
    // SAFETY: the type says which field of the union the kernel has filled.
    let tcx = unsafe { info.__bindgen_anon_1.tcx };
    Ok(TcxLink { id: info.id, ifindex: tcx.ifindex })
}

/// The ids of the TCX links on an interface of this network namespace, in the order in which their
/// programs run; 0 stands for a program without a link. A kernel without TCX answers `EINVAL`.
pub(super) fn links_on(ifindex: u32, hook: Hook) -> io::Result<Vec<u32>> {
    let mut programs = [0_u32; MOST_PROGRAMS];
    let mut links = [0_u32; MOST_PROGRAMS];
    let mut attr = zeroed();
    attr.query.__bindgen_anon_1.target_ifindex = ifindex;
    attr.query.attach_type = attach_type(hook);
    attr.query.prog_ids = programs.as_mut_ptr() as u64;
    attr.query.link_ids = links.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.count = MOST_PROGRAMS as u32;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the kernel has put the number of programs there.
    let count = unsafe { attr.query.__bindgen_anon_2.count } as usize;
    Ok(links[..count.min(MOST_PROGRAMS)].to_vec())
}

/// `BPF_MPROG_MAX` (`linux/bpf_mprog.h`).
const MOST_PROGRAMS: usize = 64;

fn attach_type(hook: Hook) -> u32 {
    match hook {
        Hook::Ingress => bpf_attach_type::BPF_TCX_INGRESS as u32,
        Hook::Egress => bpf_attach_type::BPF_TCX_EGRESS as u32,
    }
}

fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn zeroed() -> bpf_attr {
    // SAFETY: integers only, for which zero is a value; the kernel wants what is not used zero.
    unsafe { mem::zeroed() }
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: the attributes are of the size that is given, and what they point to outlives the
    // call: each caller keeps it on its stack.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size_of::<bpf_attr>() as u32)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call has returned a new descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
