//! What a port that is not guarded yet can still say to the host.

use std::{fs, path::Path};

use super::{Finding, Patient, fine, warning};

const SYSCTLS: [&str; 2] = [
    "/proc/sys/net/ipv4/conf/all/drop_unicast_in_l2_multicast",
    "/proc/sys/net/ipv6/conf/all/drop_unicast_in_l2_multicast",
];

pub(super) fn check(_patient: &Patient<'_>) -> Vec<Finding> {
    vec![judge(&SYSCTLS.map(Path::new))]
}

pub(super) fn judge(sysctls: &[&Path]) -> Finding {
    let open = |path: &&&Path| fs::read_to_string(path).is_ok_and(|value| value.trim() == "0");
    if sysctls.iter().filter(open).count() == 0 {
        return fine("the host takes no unicast packets in link-local frames");
    }
    warning(
        "for the milliseconds before a new port is guarded, its guest can send packets to the host's own \
         services in frames to 01:80:c2:00:00:00",
        "`sysctl -w net.ipv4.conf.all.drop_unicast_in_l2_multicast=1 \
         net.ipv6.conf.all.drop_unicast_in_l2_multicast=1`, and the same in /etc/sysctl.d",
    )
}
