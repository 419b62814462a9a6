//! Which events are subscribed, and how they wake the thread that owns the connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    ptr,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use libc::c_int;
use uuid::Uuid;
use virt::{connect::Connect, error::Error, sys};

use super::{
    callbacks::{self, Callback, on_close},
    others::Others,
};

/// What has happened since the worker last looked. It is bounded by the number of domains.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) changed: BTreeSet<Uuid>,
    /// Of these, those whose guest has just stopped here to go on elsewhere.
    pub(super) departed: BTreeSet<Uuid>,
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
    others: Others,
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
        let mut subscription = Self { listener, callbacks: Vec::new(), others: Others::default() };
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
        self.register(connection, callbacks::REQUIRED)?;
        for event in callbacks::OPTIONAL {
            if let Err(error) = self.register(connection, event) {
                tracing::debug!(event = event.0, %error, "libvirt does not tell of this");
            }
        }
        self.others = Others::subscribe(connection, self.listener);
        Ok(())
    }

    fn register(
        &mut self,
        connection: &Connect,
        (event, callback): (sys::virDomainEventID, Callback),
    ) -> Result<(), Error> {
        // SAFETY: the connection is open, the callback was made for this event, no domain is
        // named (all of them), and the argument is a number that is never dereferenced.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connection.as_ptr(),
                ptr::null_mut(),
                event.cast_signed(),
                callback.erase(),
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
        self.others.cancel(connection);
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

/// Notes something for the listener of that number, if there still is one.
pub(super) fn note(listener: usize, change: impl FnOnce(&mut News)) {
    let signal = lock(&LISTENERS).signals.get(&listener).and_then(Weak::upgrade);
    if let Some(signal) = signal {
        signal.note(change);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
