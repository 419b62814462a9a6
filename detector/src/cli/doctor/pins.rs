//! What is in force, and of which release.

use std::fs;

use detector_common::maps::SCHEMA_VERSION;

use super::{Finding, Patient, fine, problem, unknown};
use crate::bpf::{BpfError, Inspector, holder};

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let pins = &patient.config.paths.pins;
    if let Err(error) = fs::metadata(pins) {
        return vec![match error.kind() {
            std::io::ErrorKind::NotFound => fine("nothing is in force yet"),
            _ => unknown(format!("{}: {error}", pins.display()), "run it as root"),
        }];
    }
    vec![match Inspector::enforces(pins) {
        Ok(None) => fine("nothing is in force yet"),
        Ok(Some(enforces)) => {
            let mode = if enforces { "enforced" } else { "observed" };
            let by = match holder(pins) {
                Some(pid) => format!("held by process {pid}"),
                None => "and no daemon runs".to_owned(),
            };
            fine(format!("map schema {SCHEMA_VERSION}, {mode}, {by}"))
        }
        Err(error @ (BpfError::OtherSchema { .. } | BpfError::Shape { .. })) => problem(
            error.to_string(),
            "run that release, or take it off with `detector detach --all` and start this one",
        ),
        Err(error) => unknown(error.to_string(), "run it as root"),
    }]
}
