//! From libvirt's callbacks to the thread that owns the connection.
//!
//! A callback notes which domain has changed and nothing else. Its argument is a number, not a
//! pointer, so that a late callback finds nobody rather than freed memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    ptr,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use libc::{c_char, c_int, c_void};
use uuid::Uuid;
use virt::{connect::Connect, error::Error, sys};

/// What has happened since the worker last looked. It is bounded by the number of domains.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) changed: BTreeSet<Uuid>,
    pub(super) resync: bool,
    pub(super) closed: bool,
    pub(super) stop: bool,
}

/// Wakes the worker.
#[derive(Debug, Default)]
pub(super) struct Signal {
    news: Mutex<News>,
    wake: Condvar,
}

impl Signal {
    pub(super) fn stop(&self) {
        self.note(|news| news.stop = true);
    }

    pub(super) fn resync(&self) {
        self.note(|news| news.resync = true);
    }

    /// Forgets what an earlier connection said.
    pub(super) fn renew(&self) {
        let mut news = lock(&self.news);
        *news = News { stop: news.stop, ..News::default() };
    }

    /// Waits for news. When there are none for so long, everything is to be listed again.
    pub(super) fn wait(&self, resync: Duration) -> News {
        let quiet =
            |news: &mut News| news.changed.is_empty() && !news.resync && !news.closed && !news.stop;
        let (mut news, waited) = self
            .wake
            .wait_timeout_while(lock(&self.news), resync, quiet)
            .unwrap_or_else(PoisonError::into_inner);
        let stop = news.stop;
        let mut taken = std::mem::replace(&mut *news, News { stop, ..News::default() });
        taken.resync |= waited.timed_out();
        taken
    }

    /// Waits for so long; true when it is time to stop.
    pub(super) fn pause(&self, span: Duration) -> bool {
        let (news, _) = self
            .wake
            .wait_timeout_while(lock(&self.news), span, |news| !news.stop)
            .unwrap_or_else(PoisonError::into_inner);
        news.stop
    }

    fn note(&self, note: impl FnOnce(&mut News)) {
        note(&mut lock(&self.news));
        self.wake.notify_all();
    }
}

/// Who is told about the events of which subscription.
static LISTENERS: Mutex<Listeners> = Mutex::new(Listeners { next: 1, signals: BTreeMap::new() });

struct Listeners {
    next: usize,
    signals: BTreeMap<usize, Weak<Signal>>,
}

/// The events of a connection, noted in a [`Signal`] until they are cancelled.
#[derive(Debug)]
pub(super) struct Subscription {
    listener: usize,
    callbacks: Vec<c_int>,
}

impl Subscription {
    pub(super) fn new(connection: &Connect, signal: &Arc<Signal>) -> Result<Self, Error> {
        let listener = {
            let mut listeners = lock(&LISTENERS);
            let listener = listeners.next;
            listeners.next += 1;
            listeners.signals.insert(listener, Arc::downgrade(signal));
            listener
        };
        let mut subscription = Self { listener, callbacks: Vec::new() };
        // Without the first nothing would be noticed; drivers need not have the others.
        if let Err(error) = subscription.subscribe(connection) {
            subscription.cancel(connection);
            return Err(error);
        }
        // SAFETY: the connection is open, the callback has the type that libvirt calls, and its
        // argument is a number that is never dereferenced, so that there is nothing to free.
        unsafe {
            sys::virConnectRegisterCloseCallback(
                connection.as_ptr(),
                Some(on_close),
                ptr::without_provenance_mut(listener),
                None,
            );
        }
        Ok(subscription)
    }

    fn subscribe(&mut self, connection: &Connect) -> Result<(), Error> {
        let required =
            [(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, erase(Callback::Lifecycle(on_lifecycle)))];
        let optional = [
            (sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, erase(Callback::Device(on_device))),
            (sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, erase(Callback::Device(on_device))),
            (sys::VIR_DOMAIN_EVENT_ID_DISK_CHANGE, erase(Callback::Disk(on_disk))),
            (sys::VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, erase(Callback::Tray(on_tray))),
            (sys::VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, erase(Callback::BlockJob(on_block_job))),
        ];
        for (event, callback) in required {
            self.register(connection, event, callback)?;
        }
        for (event, callback) in optional {
            if let Err(error) = self.register(connection, event, callback) {
                tracing::debug!(event, %error, "libvirt does not tell of this");
            }
        }
        Ok(())
    }

    fn register(
        &mut self,
        connection: &Connect,
        event: sys::virDomainEventID,
        callback: sys::virConnectDomainEventGenericCallback,
    ) -> Result<(), Error> {
        // SAFETY: the connection is open, the callback was made for this event, no domain is
        // named (all of them), and the argument is a number that is never dereferenced.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connection.as_ptr(),
                ptr::null_mut(),
                event.cast_signed(),
                callback,
                ptr::without_provenance_mut(self.listener),
                None,
            )
        };
        if id < 0 {
            return Err(Error::last_error());
        }
        self.callbacks.push(id);
        Ok(())
    }

    /// Ends the subscription. On a connection that is lost libvirt may refuse; a callback that
    /// comes nevertheless finds no listener.
    pub(super) fn cancel(&mut self, connection: &Connect) {
        lock(&LISTENERS).signals.remove(&self.listener);
        for id in self.callbacks.drain(..) {
            // SAFETY: the connection has not been closed, and the id is one that it gave out.
            unsafe { sys::virConnectDomainEventDeregisterAny(connection.as_ptr(), id) };
        }
        // SAFETY: as above; libvirt reports an error when the callback is not registered.
        unsafe { sys::virConnectUnregisterCloseCallback(connection.as_ptr(), Some(on_close)) };
    }
}

/// Runs libvirt's event loop on a thread of its own; once, for the whole process.
pub(super) fn run_loop() -> Result<(), String> {
    static RUNNING: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || {
        virt::error::clear_error_callback();
        virt::event::event_register_default_impl().map_err(|error| error.to_string())?;
        thread::Builder::new()
            .name("libvirt-events".to_owned())
            .spawn(dispatch)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    RUNNING.get_or_init(start).clone()
}

/// Dispatches events for ever. Should the loop itself fail again and again, domains are still
/// listed now and then.
fn dispatch() {
    let (mut failures, mut since) = (0, Instant::now());
    while failures < 100 {
        let Err(error) = virt::event::event_run_default_impl() else { continue };
        if since.elapsed() > Duration::from_secs(60) {
            (failures, since) = (0, Instant::now());
        }
        failures += 1;
        tracing::warn!(%error, "libvirt's event loop");
    }
    tracing::error!("libvirt's event loop has ended: changes are noticed with delay from now on");
}

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
type GenericFn = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);

/// A callback with the arguments that its event has.
enum Callback {
    Lifecycle(LifecycleFn),
    Device(DeviceFn),
    Disk(DiskFn),
    Tray(TrayFn),
    BlockJob(BlockJobFn),
}

/// What `VIR_DOMAIN_EVENT_CALLBACK` does in C.
fn erase(callback: Callback) -> sys::virConnectDomainEventGenericCallback {
    // SAFETY: a function pointer becomes another one of the same size; libvirt calls each event's
    // callback with the arguments of that event, which are those of the variant.
    Some(unsafe {
        match callback {
            Callback::Lifecycle(call) => std::mem::transmute::<LifecycleFn, GenericFn>(call),
            Callback::Device(call) => std::mem::transmute::<DeviceFn, GenericFn>(call),
            Callback::Disk(call) => std::mem::transmute::<DiskFn, GenericFn>(call),
            Callback::Tray(call) => std::mem::transmute::<TrayFn, GenericFn>(call),
            Callback::BlockJob(call) => std::mem::transmute::<BlockJobFn, GenericFn>(call),
        }
    })
}

/// # Safety
/// `domain` is a domain that libvirt lends for the duration of a callback.
unsafe fn note_domain(domain: sys::virDomainPtr, listener: *mut c_void) {
    let mut uuid = [0; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: the domain is valid for the duration of the callback, the buffer has the length that
    // libvirt writes, and the call asks nobody else.
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } == 0 {
        note(listener, |news| {
            news.changed.insert(Uuid::from_bytes(uuid));
        });
    }
}

fn note(listener: *mut c_void, change: impl FnOnce(&mut News)) {
    let signal = lock(&LISTENERS).signals.get(&listener.addr()).and_then(Weak::upgrade);
    if let Some(signal) = signal {
        signal.note(change);
    }
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _event: c_int,
    _detail: c_int,
    listener: *mut c_void,
) -> c_int {
    // SAFETY: libvirt calls with a domain that it holds.
    unsafe { note_domain(domain, listener) };
    0
}

unsafe extern "C" fn on_device(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    listener: *mut c_void,
) {
    // SAFETY: libvirt calls with a domain that it holds.
    unsafe { note_domain(domain, listener) };
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
    unsafe { note_domain(domain, listener) };
}

unsafe extern "C" fn on_tray(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    _reason: c_int,
    listener: *mut c_void,
) {
    // SAFETY: libvirt calls with a domain that it holds.
    unsafe { note_domain(domain, listener) };
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
    unsafe { note_domain(domain, listener) };
}

unsafe extern "C" fn on_close(_: sys::virConnectPtr, _reason: c_int, listener: *mut c_void) {
    note(listener, |news| news.closed = true);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
