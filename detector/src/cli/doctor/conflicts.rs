//! Other software that wants the same place.

use std::{fs, path::Path};

use detector_core::{
    decide::{Class, classify},
    model::Link,
};

use super::{Finding, Patient, fine, unknown, warning};
use crate::{bpf, net};

/// libvirt's bindings of its own filters to ports, one file for each port.
const NWFILTER: &str = "/run/libvirt/nwfilter-binding";

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let mut found: Vec<_> = nwfilter(Path::new(NWFILTER)).into_iter().collect();
    let links = match net::links() {
        Ok(links) => links.into_iter().map(|link| (link.ifindex, link)).collect(),
        Err(error) => return vec![unknown(error.to_string(), "run it as root")],
    };
    let in_scope = classify(&links, &patient.config.policy());
    let in_scope = in_scope.into_iter().filter(|(_, class)| *class != Class::Trusted);
    for (link, _) in in_scope {
        found.extend(foreign(&patient.config.paths.pins, link));
    }
    if found.is_empty() {
        found.push(fine("nobody else filters on the interfaces in scope"));
    }
    found
}

pub(super) fn nwfilter(bindings: &Path) -> Option<Finding> {
    let files = fs::read_dir(bindings).ok()?.filter_map(Result::ok);
    let count = files.filter(|file| file.path().extension().is_some_and(|e| e == "xml")).count();
    (count > 0).then(|| {
        warning(
            format!("libvirt's nwfilter is bound to {count} ports: what both refuse is refused twice, and \
                     what it lets through is judged all the same"),
            "remove <filterref> from the domains once the detector enforces, or leave it as a second lock",
        )
    })
}

fn foreign(pins: &Path, link: &Link) -> Option<Finding> {
    let name = &link.name;
    match bpf::others_ahead(pins, link.ifindex) {
        Ok(0) => None,
        Ok(count) => Some(warning(
            format!("{name}: {count} tc programs of others run ahead of where ours are"),
            format!(
                "`tc filter show dev {name} ingress` or `bpftool net show dev {name}` names them; the \
                     daemon puts its own ahead"
            ),
        )),
        // Without root this is not to be seen, which has been told.
        Err(_) => None,
    }
}
