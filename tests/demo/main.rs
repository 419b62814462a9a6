//! `cargo xtask demo`: plays the story; ends with 0 only if all of it was proven.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use detector_tests::{demo, wait};
use nix::sys::signal::{SigHandler, Signal, signal};

fn main() -> ExitCode {
    let mut keep = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--keep" => keep = true,
            other => {
                eprintln!("{other}: unknown; the only option is --keep");
                return ExitCode::from(2);
            }
        }
    }
    for kind in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        if let Err(error) = unsafe { signal(kind, SigHandler::Handler(interrupted)) } {
            eprintln!("cannot handle {kind}: {error}");
            return ExitCode::FAILURE;
        }
    }
    match demo::play(keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

extern "C" fn interrupted(_: libc::c_int) {
    wait::INTERRUPTED.store(true, Ordering::Relaxed);
}
