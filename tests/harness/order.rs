//! Frames that do not overtake each other.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this thread on one processor while it sends, always the same one: each processor has a queue
/// of its own for what goes from one end of a cable to the other, and a busy one is late with it. So
/// whatever was sent before a frame that has arrived has arrived too, or never will.
pub fn in_order<T>(send: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(THIS_THREAD).ok();
    let _back = before.map(|before| {
        pin(&before);
        Back(before)
    });
    send()
}

/// The same for good: for a thread that does nothing else.
pub fn stay_in_order() {
    if let Ok(allowed) = sched_getaffinity(THIS_THREAD) {
        pin(&allowed);
    }
}

const THIS_THREAD: Pid = Pid::from_raw(0);

fn pin(allowed: &CpuSet) {
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    if first.is_some_and(|first| one.set(first).is_ok()) {
        // A frame may be overtaken when this fails; a test that minds then says what is missing.
        let _ = sched_setaffinity(THIS_THREAD, &one);
    }
}

/// Gives the other processors back, also when sending panics.
struct Back(CpuSet);

impl Drop for Back {
    fn drop(&mut self) {
        let _ = sched_setaffinity(THIS_THREAD, &self.0);
    }
}
