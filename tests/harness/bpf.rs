//! bpf(2), as far as tests and benchmarks need it: small programs of their own, running a program on a
//! frame, and finding the program behind a pinned link. Loading and attaching the product's own programs is
//! the product's business.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use aya::programs::tc::{NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{SchedClassifier, TcAttachType};
use aya_obj::generated::{
    BPF_F_BEFORE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_map_type, bpf_prog_type,
};
use detector::bpf::{Hook, Method};
use detector_common::MapData;
use serde_json::Value;

use crate::pins::PinRoot;
use crate::run as commands;

/// An instruction: opcode, registers (source in the upper half), offset, immediate.
pub type Instruction = (u8, u8, i16, i32);

/// `TC_ACT_UNSPEC`: the frame goes on.
pub const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
pub const DROP: i32 = 2;

/// A program that only says what becomes of the frame.
pub const fn returning(verdict: i32) -> [Instruction; 2] {
    [(0xb7, 0, 0, verdict), (0x95, 0, 0, 0)]
}

/// `__sk_buff` as `BPF_PROG_TEST_RUN` takes it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct SkBuff([u32; 48]);

impl SkBuff {
    /// A frame on an interface of this network namespace.
    pub fn on(ifindex: u32) -> Self {
        let mut words = [0; 48];
        words[10] = ifindex;
        Self(words)
    }

    /// One that has come into the host by this interface; 0 for the host's own.
    pub fn came_in_by(mut self, ifindex: u32) -> Self {
        self.0[9] = ifindex;
        self
    }

    pub fn with_mark(mut self, mark: u32) -> Self {
        self.0[2] = mark;
        self
    }
}

/// A program that returns this and does nothing else.
pub const fn returns(value: i32) -> [Instruction; 2] {
    [(0xb7, 0, 0, value), (0x95, 0, 0, 0)]
}

/// Loads a tc program.
pub fn load(instructions: &[Instruction]) -> Result<OwnedFd> {
    load_as(bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, instructions)
}

/// Loads an XDP program and attaches it to an interface of this network namespace, for as long as
/// the descriptor is open.
pub fn attach_xdp(instructions: &[Instruction], ifindex: u32) -> Result<OwnedFd> {
    let program = load_as(bpf_prog_type::BPF_PROG_TYPE_XDP, instructions)?;
    link(program.as_fd(), ifindex, bpf_attach_type::BPF_XDP, 0)
}

fn load_as(kind: bpf_prog_type, instructions: &[Instruction]) -> Result<OwnedFd> {
    let words: Vec<u64> = instructions
        .iter()
        .map(|&(code, registers, offset, immediate)| {
            let [o0, o1] = offset.to_le_bytes();
            let [i0, i1, i2, i3] = immediate.to_le_bytes();
            u64::from_le_bytes([code, registers, o0, o1, i0, i1, i2, i3])
        })
        .collect();
    lift_memory_limit();
    let mut attr = zeroed();
    attr.__bindgen_anon_3.prog_type = kind as u32;
    attr.__bindgen_anon_3.insns = words.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = u32::try_from(words.len())?;
    attr.__bindgen_anon_3.license = c"MIT".as_ptr() as u64;
    bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr).context("cannot load a program")
}

/// Before Linux 5.11 programs and maps count as locked memory, of which a process may have little.
/// Where that may not be changed, a load that needs it says so.
fn lift_memory_limit() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// A map of one program that others can jump to.
pub fn jump_table(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = zeroed();
    attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY as u32;
    attr.__bindgen_anon_1.key_size = 4;
    attr.__bindgen_anon_1.value_size = 4;
    attr.__bindgen_anon_1.max_entries = 1;
    let map = bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr).context("cannot create a jump table")?;
    let (key, value) = (0_u32, number(program));
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = number(map.as_fd());
    attr.__bindgen_anon_2.key = &raw const key as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = &raw const value as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).context("cannot fill a jump table")?;
    Ok(map)
}

/// Runs a program on a frame so many times; returns what it returned at last.
pub fn run(program: BorrowedFd<'_>, context: &SkBuff, frame: &[u8], times: u32) -> Result<i32> {
    let mut attr = zeroed();
    attr.test.prog_fd = number(program);
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = u32::try_from(frame.len())?;
    attr.test.ctx_in = &raw const *context as u64;
    attr.test.ctx_size_in = size_of::<SkBuff>() as u32;
    attr.test.repeat = times;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).context("cannot run a program")?;
    // SAFETY: the call has filled in this member of the union.
    Ok(unsafe { attr.test.retval }.cast_signed())
}

/// How the product attaches its programs on this kernel, and somebody else may as well.
pub fn method() -> Method {
    match detector::bpf::probe() {
        Ok(features) if !features.tcx => Method::Clsact,
        _ => Method::Tcx,
    }
}

/// Attaches a program to an interface of this network namespace, behind all others, for as long as
/// the descriptor is open.
pub fn attach(program: BorrowedFd<'_>, ifindex: u32, hook: Hook) -> Result<OwnedFd> {
    link(program, ifindex, kind_of(hook), 0)
}

/// The same ahead of all others.
pub fn attach_first(program: BorrowedFd<'_>, ifindex: u32, hook: Hook) -> Result<OwnedFd> {
    link(program, ifindex, kind_of(hook), BPF_F_BEFORE)
}

/// Takes the program of a pinned link off its interface.
pub fn detach(link: &Path) -> Result<()> {
    let take_off = || {
        let link = open_pin(link)?;
        let mut attr = zeroed();
        attr.link_detach.link_fd = number(link.as_fd());
        bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr)
    };
    take_off().map(drop).with_context(|| format!("cannot detach {}", link.display()))
}

fn link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    kind: bpf_attach_type,
    flags: u32,
) -> Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = number(program);
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = kind as u32;
    attr.link_create.flags = flags;
    bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr).context("cannot attach a program")
}

fn kind_of(hook: Hook) -> bpf_attach_type {
    match hook {
        Hook::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        Hook::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    }
}

/// What is pinned there.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Gives an object a name in the BPF file system.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = name.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = number(object);
    let pinned = bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr);
    pinned.map(drop).with_context(|| format!("cannot pin {}", path.display()))
}

/// Changes an entry of a pinned map, whose value has this type.
pub fn change<V: MapData>(map: &Path, key: u32, change: impl FnOnce(&mut V)) -> Result<()> {
    let map = open_pin(map)?;
    let mut value: V = get(map.as_fd(), &key)?;
    change(&mut value);
    put(map.as_fd(), &key, &value)
}

/// The keys of a map that are of this type.
pub fn keys<K: MapData>(map: BorrowedFd<'_>) -> Result<Vec<K>> {
    let mut keys: Vec<K> = Vec::new();
    loop {
        let mut next = MaybeUninit::<K>::zeroed();
        let mut attr = zeroed();
        attr.__bindgen_anon_2.map_fd = number(map);
        attr.__bindgen_anon_2.key = keys.last().map_or(0, |key| &raw const *key as u64);
        attr.__bindgen_anon_2.__bindgen_anon_1.next_key = next.as_mut_ptr() as u64;
        match bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr) {
            // SAFETY: the kernel has written a whole key, and every bit pattern is one (MapData).
            Ok(_) => keys.push(unsafe { next.assume_init() }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
            Err(error) => return Err(error).context("cannot read the keys of a map"),
        }
    }
}

/// Puts one entry into a map whose keys and values are of these types.
pub fn put<K: Copy, V: MapData>(map: BorrowedFd<'_>, key: &K, value: &V) -> Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = number(map);
    attr.__bindgen_anon_2.key = &raw const *key as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = &raw const *value as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).context("cannot put an entry").map(|_| ())
}

/// The value of one entry.
pub fn get<K: Copy, V: MapData>(map: BorrowedFd<'_>, key: &K) -> Result<V> {
    let mut value = MaybeUninit::<V>::zeroed();
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = number(map);
    attr.__bindgen_anon_2.key = &raw const *key as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr).context("cannot read an entry")?;
    // SAFETY: the kernel has written a whole value, and every bit pattern is one (MapData).
    Ok(unsafe { value.assume_init() })
}

/// Removes one entry.
pub fn remove<K: Copy>(map: BorrowedFd<'_>, key: &K) -> Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = number(map);
    attr.__bindgen_anon_2.key = &raw const *key as u64;
    bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr).context("cannot remove an entry").map(|_| ())
}

/// The program behind a pinned link.
pub fn program_of(link: &Path) -> Result<OwnedFd> {
    let find = || -> io::Result<OwnedFd> {
        let link = open_pin(link)?;
        // SAFETY: integers only, for which zero is a value.
        let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
        let mut attr = zeroed();
        attr.info.bpf_fd = number(link.as_fd());
        attr.info.info_len = size_of_val(&info) as u32;
        attr.info.info = &raw mut info as u64;
        bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
        by_id(info.prog_id)
    };
    find().with_context(|| format!("cannot find the program behind {}", link.display()))
}

/// The first program that is attached to an interface of this network namespace as a filter.
pub fn program_of_filter(interface: &str, hook: Hook) -> Result<OwnedFd> {
    let mut tc = Command::new("tc");
    tc.args(["-json", "filter", "show", "dev", interface, hook.as_str()]);
    let result = tc.output();
    let text = commands::checked(&tc, result)?;
    let filters: Vec<Value> = serde_json::from_str(&text).context("tc speaks no JSON")?;
    let mut ids = filters.iter().filter_map(|filter| filter["options"]["prog"]["id"].as_u64());
    let id = ids.next().with_context(|| format!("no program on {interface}: {text}"))?;
    by_id(u32::try_from(id)?).with_context(|| format!("cannot find program {id}"))
}

/// Gives our filter on an interface of this network namespace another handle, as one of another release has. For an instant
/// there is neither. Where there is none, nothing is done.
pub fn rehandle(interface: &str, hook: Hook, from: u32, to: u32) -> Result<()> {
    let Ok(program) = program_of_filter(interface, hook) else { return Ok(()) };
    let root = PinRoot::new()?;
    std::fs::create_dir_all(root.path())?;
    let path = root.path().join("filter");
    pin(program.as_fd(), &path)?;
    let direction = hook.as_str();
    let words =
        format!("filter del dev {interface} {direction} prio 1 handle {from} protocol all bpf");
    let mut tc = Command::new("tc");
    tc.args(words.split(' '));
    let result = tc.output();
    commands::checked(&tc, result)?;
    let mut program = SchedClassifier::from_pin(&path)?;
    let options = NlOptions { priority: 1, handle: TcHandle::from(to), ..NlOptions::default() };
    let kind = match hook {
        Hook::Ingress => TcAttachType::Ingress,
        Hook::Egress => TcAttachType::Egress,
    };
    let attached =
        program.attach_with_options(interface, kind, TcAttachOptions::Netlink(options))?;
    // Dropping the link would take it off.
    std::mem::forget(program.take_link(attached)?);
    Ok(())
}

/// The kernel's number of a program.
pub fn program_id(program: BorrowedFd<'_>) -> Result<u32> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
    line.and_then(|id| id.trim().parse().ok()).with_context(|| format!("no program in {path}"))
}

fn by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    bpf_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn zeroed() -> bpf_attr {
    // SAFETY: integers only, for which zero is a value; the kernel wants what is not used zero.
    unsafe { std::mem::zeroed() }
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: the attributes are of the size that is given, and what they point to outlives the
    // call: each caller keeps it until then.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = i32::try_from(bpf(command, attr)?).map_err(io::Error::other)?;
    // SAFETY: the call has returned a new descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
