//! From libvirt's callbacks to a [`Signal`](super::events::Signal).
//!
//! A callback notes which domain has changed and nothing else. Its argument is a number, not a
//! pointer, so that a late callback finds nobody rather than freed memory.

use libc::{c_char, c_int, c_void};
use uuid::Uuid;
use virt::sys;

use super::events::note;

type DeviceFn =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);
type LifecycleFn =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type DiskFn = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    *const c_char,
    *const c_char,
    c_int,
    *mut c_void,
);
type TrayFn =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, c_int, *mut c_void);
type BlockJobFn = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    c_int,
    c_int,
    *mut c_void,
);
/// Of a network or of a pool.
pub(super) type OfOther<T> = unsafe extern "C" fn(sys::virConnectPtr, T, c_int, c_int, *mut c_void);
type GenericFn = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);

/// A callback with the arguments that its event has.
#[derive(Clone, Copy)]
pub(super) enum Callback {
    Lifecycle(LifecycleFn),
    Device(DeviceFn),
    Disk(DiskFn),
    Tray(TrayFn),
    BlockJob(BlockJobFn),
}

impl Callback {
    /// What `VIR_DOMAIN_EVENT_CALLBACK` does in C.
    pub(super) fn erase(self) -> sys::virConnectDomainEventGenericCallback {
        // SAFETY: a function pointer becomes another one of the same size; libvirt calls each
        // event's callback with the arguments of that event, which are those of the variant.
        Some(unsafe {
            match self {
                Self::Lifecycle(call) => std::mem::transmute::<LifecycleFn, GenericFn>(call),
                Self::Device(call) => std::mem::transmute::<DeviceFn, GenericFn>(call),
                Self::Disk(call) => std::mem::transmute::<DiskFn, GenericFn>(call),
                Self::Tray(call) => std::mem::transmute::<TrayFn, GenericFn>(call),
                Self::BlockJob(call) => std::mem::transmute::<BlockJobFn, GenericFn>(call),
            }
        })
    }
}

/// Without this one nothing would be noticed.
pub(super) const REQUIRED: Event =
    (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, Callback::Lifecycle(on_lifecycle));

/// A driver need not have these. Each can change ports or boot media of a running domain.
pub(super) const OPTIONAL: [Event; 5] = [
    (sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, Callback::Device(on_device)),
    (sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, Callback::Device(on_device)),
    (sys::VIR_DOMAIN_EVENT_ID_DISK_CHANGE, Callback::Disk(on_disk)),
    (sys::VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, Callback::Tray(on_tray)),
    (sys::VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, Callback::BlockJob(on_block_job)),
];

type Event = (sys::virDomainEventID, Callback);

/// # Safety
/// `domain` is a domain that libvirt lends for the duration of a callback.
unsafe fn note_domain(domain: sys::virDomainPtr, listener: *mut c_void, departs: bool) {
    let mut uuid = [0; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: the domain is valid for the duration of the callback, the buffer has the length that
    // libvirt writes, and the call asks nobody else.
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } == 0 {
        let uuid = Uuid::from_bytes(uuid);
        note(listener.addr(), |news| {
            news.changed.insert(uuid);
            if departs {
                news.departed.insert(uuid);
            } else {
                news.departed.remove(&uuid);
            }
        });
    }
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    listener: *mut c_void,
) -> c_int {
    // SAFETY: libvirt calls with a domain that it holds.
    unsafe { note_domain(domain, listener, departs(event, detail)) };
    0
}

/// Whether the guest has stopped here to go on elsewhere. It announces itself there within
/// milliseconds, too soon for asking what has become of the domain.
fn departs(event: c_int, detail: c_int) -> bool {
    event.cast_unsigned() == sys::VIR_DOMAIN_EVENT_SUSPENDED
        && matches!(
            detail.cast_unsigned(),
            sys::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED
                | sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY
                | sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED
        )
}

unsafe extern "C" fn on_device(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    listener: *mut c_void,
) {
    // SAFETY: libvirt calls with a domain that it holds.
    unsafe { note_domain(domain, listener, false) };
}

unsafe extern "C" fn on_disk(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _old: *const c_char,
    _new: *const c_char,
    _alias: *const c_char,
    _reason: c_int,
    listener: *mut c_void,
) {
    // SAFETY: libvirt calls with a domain that it holds.
    unsafe { note_domain(domain, listener, false) };
}

unsafe extern "C" fn on_tray(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    _reason: c_int,
    listener: *mut c_void,
) {
    // SAFETY: libvirt calls with a domain that it holds.
    unsafe { note_domain(domain, listener, false) };
}

unsafe extern "C" fn on_block_job(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _disk: *const c_char,
    _kind: c_int,
    _status: c_int,
    listener: *mut c_void,
) {
    // SAFETY: libvirt calls with a domain that it holds.
    unsafe { note_domain(domain, listener, false) };
}

/// A network is there, is gone, or is another.
pub(super) unsafe extern "C" fn on_network(
    _: sys::virConnectPtr,
    _: sys::virNetworkPtr,
    _event: c_int,
    _detail: c_int,
    listener: *mut c_void,
) {
    note(listener.addr(), |news| news.resync = true);
}

/// A storage pool is there, or is gone.
pub(super) unsafe extern "C" fn on_pool(
    _: sys::virConnectPtr,
    _: sys::virStoragePoolPtr,
    _event: c_int,
    _detail: c_int,
    listener: *mut c_void,
) {
    note(listener.addr(), |news| news.resync = true);
}

/// What is in a storage pool has been looked at anew.
pub(super) unsafe extern "C" fn on_pool_refresh(
    _: sys::virConnectPtr,
    _: sys::virStoragePoolPtr,
    listener: *mut c_void,
) {
    note(listener.addr(), |news| news.resync = true);
}

pub(super) unsafe extern "C" fn on_close(
    _: sys::virConnectPtr,
    _reason: c_int,
    listener: *mut c_void,
) {
    note(listener.addr(), |news| news.closed = true);
}
