//! Whether the libvirts that are configured answer.

use std::{sync::mpsc, thread, time::Duration};

use virt::connect::Connect;

use super::{Finding, Patient, fine, problem, unknown};

/// A libvirt that takes longer is no help to a daemon either.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let uris = patient.config.libvirt.uris();
    if uris.is_empty() {
        return vec![fine("none is configured: VMs are known from the static inventory only")];
    }
    uris.iter().map(|uri| answers(uri)).collect()
}

fn answers(uri: &str) -> Finding {
    let (told, answer) = mpsc::channel();
    // It would print what is told here.
    virt::error::clear_error_callback();
    let to = uri.to_owned();
    // It may hang: then the thread is left behind, and ends with this process.
    let asked = thread::Builder::new().name("libvirt".to_owned()).spawn(move || {
        let asked = Connect::open_read_only(Some(&to)).and_then(|mut connection| {
            let version = connection.get_lib_version();
            // Nothing depends on how it ends.
            let _ = connection.close();
            version
        });
        let _ = told.send(asked.map_err(|error| error.message().to_owned()));
    });
    let answer = match asked {
        Ok(_) => answer.recv_timeout(PATIENCE),
        Err(error) => return unknown(format!("{uri}: {error}"), "try again"),
    };
    match answer {
        Ok(Ok(version)) => fine(format!("{uri} answers: libvirt {}", dotted(version))),
        Ok(Err(why)) => problem(
            format!("{uri} does not answer: {why}"),
            "start it (`systemctl start libvirtd`), or correct `libvirt.uri` (\"\" for a host without)",
        ),
        Err(_) => problem(
            format!("{uri} has not answered for {} s", PATIENCE.as_secs()),
            "`systemctl restart libvirtd`; running VMs are not touched",
        ),
    }
}

/// `virConnectGetLibVersion`: 1,000,000 times major, 1,000 times minor, and release.
pub(super) fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000)
}
