//! Loads the kernel programs over the pinned maps.

use std::{collections::BTreeSet, io, os::fd::BorrowedFd};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError, ProgramFd, SchedClassifier, Xdp},
};
use aya_log::EbpfLogger;
use detector_common::{
    maps::programs,
    stamp::{Stamp, globals},
};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use tokio::io::{Interest, unix::AsyncFd};

use super::{BpfError, PinPaths, Pins, object, schema, sys};

/// The programs, loaded. Those that are attached run on when this value is gone.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    /// Loads all programs. Maps that are pinned are taken over, the others are made and pinned. Where the
    /// stamp stays, others that come behind find it too.
    ///
    /// # Errors
    ///
    /// When a pinned map is of another shape, before anything is touched; when the kernel refuses a
    /// program, with the end of what its verifier says.
    pub(super) fn load(pins: &Pins, stamp: Stamp, stays: bool) -> Result<Self, BpfError> {
        Self::load_over(pins.paths(), stamp, stays)
    }

    /// The same for whoever acts for the one that has claimed the pins, and has taken them over.
    pub(super) fn load_over(paths: &PinPaths, stamp: Stamp, stays: bool) -> Result<Self, BpfError> {
        let object = object::bytes();
        schema::check(paths, &schema::expected(object)?)?;
        // Kernels before 5.11 count map memory against this limit. Where it cannot be raised, it
        // either does not matter or creating a map says so.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(paths.maps())
            .override_global(globals::CARRIER, &(stamp.carrier as u32), true)
            .override_global(globals::MASK, &stamp.mask, true)
            .override_global(globals::VALUE, &stamp.value, true)
            .override_global(globals::BROUGHT, &stamp.brought().unwrap_or(0), true)
            .override_global(globals::STAYS, &u32::from(stays), true)
            .load(object)
            .map_err(BpfError::failed("create the maps"))?;
        for name in programs::ALL {
            load_whole(classifier(&mut ebpf, name)?).map_err(|error| refused(name, error))?;
        }
        let shield = xdp(&mut ebpf)?;
        shield.load().map_err(|error| refused(programs::SHIELD, error))?;
        Ok(Self { ebpf })
    }

    /// A loaded program by its name in [`programs`].
    pub(super) fn get(&mut self, name: &str) -> Result<&mut SchedClassifier, BpfError> {
        classifier(&mut self.ebpf, name)
    }

    /// Hands on what the programs log, for as long as it is polled; what they have to say is said once.
    /// Needs a Tokio runtime.
    pub(super) fn follow_logs(
        &mut self,
    ) -> Result<impl Future<Output = ()> + Send + 'static + use<>, BpfError> {
        const WHAT: &str = "follow the log of the kernel programs";
        let logger = EbpfLogger::init(&mut self.ebpf)
            .map_err(|error| BpfError::failed(WHAT)(io::Error::other(error)))?;
        // SAFETY: the logger owns the descriptor of its map, and keeps the same one until it is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        let mut logger =
            registered.map_err(|error| BpfError::failed(WHAT)(error.into_parts().1))?;
        Ok(async move {
            while let Ok(mut ready) = logger.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        })
    }

    /// The ids of the maps that the programs use.
    pub(super) fn map_ids(&mut self) -> Result<BTreeSet<u32>, BpfError> {
        let mut ids = BTreeSet::new();
        for name in programs::ALL {
            let info = self.get(name)?.info();
            let info = info.map_err(BpfError::failed(format!("look at the program {name}")))?;
            let used = sys::maps_of(info.id());
            ids.extend(used.map_err(BpfError::failed(format!("list the maps of {name}")))?);
        }
        Ok(ids)
    }

    /// The program of a shield.
    pub(super) fn shield(&mut self) -> Result<&ProgramFd, BpfError> {
        xdp(&mut self.ebpf)?
            .fd()
            .map_err(BpfError::failed(format!("use the program {}", programs::SHIELD)))
    }

    pub(super) fn fd(&mut self, name: &str) -> Result<&ProgramFd, BpfError> {
        self.get(name)?.fd().map_err(BpfError::failed(format!("use the program {name}")))
    }
}

/// A borrowed descriptor of a loaded program.
pub(super) fn borrowed(fd: &ProgramFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, BpfError> {
    program(ebpf, name)?.try_into().map_err(BpfError::failed(format!("use the program {name}")))
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, BpfError> {
    let name = programs::SHIELD;
    program(ebpf, name)?.try_into().map_err(BpfError::failed(format!("use the program {name}")))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, BpfError> {
    ebpf.program_mut(name).ok_or_else(|| {
        BpfError::Refused(format!(
            "the kernel object has no program {name}: it is of another build"
        ))
    })
}

/// A signal to this process makes the verifier give up with EAGAIN; it means nothing.
fn load_whole(program: &mut SchedClassifier) -> Result<(), ProgramError> {
    const ATTEMPTS: usize = 5;
    let mut result = program.load();
    for _ in 1..ATTEMPTS {
        match &result {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock =>
            {
                result = program.load();
            }
            _ => break,
        }
    }
    result
}

fn refused(name: &str, error: ProgramError) -> BpfError {
    const TAIL_LINES: usize = 12;
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<_> = log.lines().collect();
            if lines.is_empty() {
                return BpfError::failed(format!("load the program {name}"))(io_error);
            }
            // The verifier says no by the errno of a missing permission, which it does not mean.
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
            BpfError::Refused(format!(
                "this kernel's verifier refuses the program {name} ({io_error}); its last words:\n{tail}"
            ))
        }
        error => BpfError::failed(format!("load the program {name}"))(error),
    }
}
