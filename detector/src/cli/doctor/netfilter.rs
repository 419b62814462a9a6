//! Rules that may touch the stamp.

use std::{fs, path::Path};

use detector_common::stamp::Carrier;

use super::{Finding, Patient, fine, warning};

const SYSCTLS: &str = "/proc/sys/net/bridge";

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    vec![judge(Path::new(SYSCTLS), patient.config.stamp.carrier)]
}

pub(super) fn judge(sysctls: &Path, carrier: Carrier) -> Finding {
    let on = |name: &str| {
        let value = fs::read_to_string(sysctls.join(name)).unwrap_or_default();
        value.trim() == "1"
    };
    let names = ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"];
    let called: Vec<_> = names.into_iter().filter(|name| on(name)).collect();
    if called.is_empty() || carrier != Carrier::Mark {
        return fine("bridged frames keep their stamp");
    }
    warning(
        format!(
            "br_netfilter hands bridged frames to the host's rules ({} = 1), and one that sets the mark \
             takes the stamp away: such frames are dropped",
            called.join(", ")
        ),
        "set them to 0 where nothing needs them, keep rules to masks without 0xc0000000, or set \
         stamp.carrier = \"tc-index\"",
    )
}
