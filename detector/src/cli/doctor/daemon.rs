//! Whether the daemon runs, and how it is.

use std::io::ErrorKind;

use super::{Finding, Patient, fine, problem, unknown, warning};
use crate::{
    api::{CallError, Reply, Request, view::health},
    cli::ask::try_ask,
};

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let socket = patient.config.paths.socket.display();
    let status = match try_ask(patient.global, Request::Status {}) {
        Ok(Ok(Reply::Status(status))) => status,
        Ok(Err(CallError::Unreachable { source, .. })) => {
            return vec![match source.kind() {
                ErrorKind::PermissionDenied => unknown(
                    format!("{socket} is for root and those whom `api.group` or `[roles]` name"),
                    "run it as one of them",
                ),
                _ => warning(
                    format!(
                        "no daemon answers on {socket}: what was in force stays, nothing new is admitted"
                    ),
                    "`systemctl enable --now detector`",
                ),
            }];
        }
        Ok(Ok(_)) => return vec![problem("it answers as another release does", "restart it")],
        Ok(Err(error)) => {
            let what = format!("{:#}", anyhow::Error::from(error));
            return vec![problem(what, "look at its log: `journalctl -u detector`")];
        }
        // The configuration has been told of already.
        Err(_) => return Vec::new(),
    };
    let ours = env!("CARGO_PKG_VERSION");
    let mut found = vec![fine(format!("release {} runs", status.version))];
    if status.version != ours {
        found.push(warning(
            format!("release {} runs, and {ours} is installed", status.version),
            "`systemctl restart detector`: what is in force stays in force meanwhile",
        ));
    }
    for trouble in health(&status).degraded {
        let mend = trouble.next.unwrap_or_else(|| "detector health".to_owned());
        found.push(warning(trouble.why, format!("`{mend}`")));
    }
    found
}
