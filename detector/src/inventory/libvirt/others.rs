//! Events of what domains refer to: networks and storage pools. A driver need not have them; then what
//! they say is asked for with every listing.

use std::ptr;

use libc::{c_int, c_void};
use virt::{connect::Connect, sys};

use super::callbacks::{OfOther, on_network, on_pool, on_pool_refresh};

/// The numbers of such callbacks; libvirt counts each kind by itself.
#[derive(Debug, Default)]
pub(super) struct Others {
    networks: Vec<c_int>,
    pools: Vec<c_int>,
}

impl Others {
    pub(super) fn subscribe(connection: &Connect, listener: usize) -> Self {
        let connection = connection.as_ptr();
        let listener = || ptr::without_provenance_mut::<c_void>(listener);
        // SAFETY: the connection is open, no network is named (all of them), libvirt calls a callback of
        // this event with the arguments that `on_network` has, and the last of them is a number that is
        // never dereferenced.
        let network = unsafe {
            sys::virConnectNetworkEventRegisterAny(
                connection,
                ptr::null_mut(),
                sys::VIR_NETWORK_EVENT_ID_LIFECYCLE.cast_signed(),
                Some(std::mem::transmute::<
                    OfOther<sys::virNetworkPtr>,
                    unsafe extern "C" fn(sys::virConnectPtr, sys::virNetworkPtr, *mut c_void),
                >(on_network)),
                listener(),
                None,
            )
        };
        // SAFETY: the same of storage pools.
        let pools = unsafe {
            [
                sys::virConnectStoragePoolEventRegisterAny(
                    connection,
                    ptr::null_mut(),
                    sys::VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE.cast_signed(),
                    Some(std::mem::transmute::<
                        OfOther<sys::virStoragePoolPtr>,
                        unsafe extern "C" fn(
                            sys::virConnectPtr,
                            sys::virStoragePoolPtr,
                            *mut c_void,
                        ),
                    >(on_pool)),
                    listener(),
                    None,
                ),
                sys::virConnectStoragePoolEventRegisterAny(
                    connection,
                    ptr::null_mut(),
                    sys::VIR_STORAGE_POOL_EVENT_ID_REFRESH.cast_signed(),
                    Some(on_pool_refresh),
                    listener(),
                    None,
                ),
            ]
        };
        let known = |ids: &[c_int]| ids.iter().copied().filter(|id| *id >= 0).collect();
        Self { networks: known(&[network]), pools: known(&pools) }
    }

    pub(super) fn cancel(&mut self, connection: &Connect) {
        for id in self.networks.drain(..) {
            // SAFETY: the connection has not been closed, and the id is one that it gave out.
            unsafe { sys::virConnectNetworkEventDeregisterAny(connection.as_ptr(), id) };
        }
        for id in self.pools.drain(..) {
            // SAFETY: as above.
            unsafe { sys::virConnectStoragePoolEventDeregisterAny(connection.as_ptr(), id) };
        }
    }
}
