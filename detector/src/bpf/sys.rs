//! The bpf(2) calls on TCX links that aya makes by interface name. A name may mean another interface
//! by the time of the call, and may be no UTF-8; here the interface is its index.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{
    BPF_F_BEFORE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_info,
    bpf_prog_info,
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

/// Attaches an XDP program to the driver of the interface; never to the generic hook, which would come
/// when there is a buffer already.
pub(super) fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = fd_number(program);
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
    attr.link_create.flags = XDP_FLAGS_DRV_MODE;
    bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Replaces the program of a link; at every instant the old or the new one runs.
pub(super) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_update.link_fd = fd_number(link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = fd_number(program);
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(|_| ())
}

/// Takes the program of a link off its interface at once. Without it that happens some time after the
/// last reference to the link is gone.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = fd_number(link);
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(|_| ())
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
    let info = info(link, bpf_link_type::BPF_LINK_TYPE_TCX)?;
    // SAFETY: the type says which field of the union the kernel has filled.
    let tcx = unsafe { info.__bindgen_anon_1.tcx };
    Ok(TcxLink { id: info.id, ifindex: tcx.ifindex })
}

/// The interface of an XDP link, 0 once it is gone; any other kind of object is an error.
pub(super) fn xdp_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    let info = info(link, bpf_link_type::BPF_LINK_TYPE_XDP)?;
    // SAFETY: the type says which field of the union the kernel has filled.
    Ok(unsafe { info.__bindgen_anon_1.xdp }.ifindex)
}

fn info(link: BorrowedFd<'_>, kind: bpf_link_type) -> io::Result<bpf_link_info> {
    let info = link_info(link)?;
    if info.type_ != kind as u32 {
        let what = format!("the pin is a link of kind {}, expected {kind:?}", info.type_);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(info)
}

pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<bpf_link_info> {
    // SAFETY: integers only, for which zero is a value.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = fd_number(link);
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
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

/// Every link of this host, of any kind, by its id. One that goes meanwhile is left out.
pub(super) fn all_links() -> impl Iterator<Item = OwnedFd> {
    let mut last = 0;
    let next = move || {
        let mut attr = zeroed();
        attr.__bindgen_anon_6.__bindgen_anon_1.start_id = last;
        bpf(bpf_cmd::BPF_LINK_GET_NEXT_ID, &mut attr).ok()?;
        // SAFETY: the kernel has put the id there.
        last = unsafe { attr.__bindgen_anon_6.next_id };
        Some(last)
    };
    std::iter::from_fn(next).filter_map(|id| {
        let mut attr = zeroed();
        attr.__bindgen_anon_6.__bindgen_anon_1.link_id = id;
        bpf_fd(bpf_cmd::BPF_LINK_GET_FD_BY_ID, &mut attr).ok()
    })
}

/// The interface of an XDP link and the id of its program; `None` for a link of another kind.
pub(super) fn xdp_link(link: BorrowedFd<'_>) -> io::Result<Option<(u32, u32)>> {
    let info = link_info(link)?;
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
        return Ok(None);
    }
    // SAFETY: the type says which field of the union the kernel has filled.
    let xdp = unsafe { info.__bindgen_anon_1.xdp };
    Ok(Some((xdp.ifindex, info.prog_id)))
}

/// The ids of the maps that a loaded program uses; at most [`MOST_MAPS`].
pub(super) fn maps_of(program: u32) -> io::Result<Vec<u32>> {
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = program;
    let program = bpf_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr)?;
    let mut ids = [0_u32; MOST_MAPS];
    // SAFETY: integers only, for which zero is a value.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    info.nr_map_ids = MOST_MAPS as u32;
    info.map_ids = ids.as_mut_ptr() as u64;
    let mut attr = zeroed();
    attr.info.bpf_fd = fd_number(program.as_fd());
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(ids[..(info.nr_map_ids as usize).min(MOST_MAPS)].to_vec())
}

/// `MAX_USED_MAPS` (`linux/bpf_verifier.h`).
const MOST_MAPS: usize = 64;

/// The id of a map.
pub(super) fn map_id(map: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: integers only, for which zero is a value.
    let mut info: bpf_map_info = unsafe { mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = fd_number(map);
    attr.info.info_len = size_of::<bpf_map_info>() as u32;
    attr.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.id)
}

/// `linux/if_link.h`.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
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
