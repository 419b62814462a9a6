//! The lease files of dnsmasq, and the JSON that libvirt's helper writes beside it.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use detector_common::addr::Mac;
use detector_core::model::{KnownLease, Timestamp};
use serde::Deserialize;

use crate::config::text::read_text;

/// Some hundred thousand leases.
const MAX_BYTES: u64 = 16 << 20;
const MILLIS: u64 = 1000;

/// The files that a path names whose last part is a pattern.
pub(super) fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let mut found: Vec<_> = names
        .filter(|one| matches(name.as_bytes(), one.as_encoded_bytes()))
        .map(|one| directory.join(one))
        .collect();
    found.sort();
    found
}

/// `*` stands for any characters, `?` for any one.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut star) = ((0, 0), None);
    while at.1 < name.len() {
        match pattern.get(at.0) {
            Some(b'*') => {
                star = Some(at);
                at.0 += 1;
            }
            Some(one) if *one == b'?' || *one == name[at.1] => at = (at.0 + 1, at.1 + 1),
            _ => match star {
                Some((before, from)) => {
                    star = Some((before, from + 1));
                    at = (before + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at.0.min(pattern.len())..].iter().all(|one| *one == b'*')
}

/// The leases in a file: libvirt's `BRIDGE.status`, or anything else as dnsmasq writes it.
pub(super) fn read(path: &Path) -> Vec<KnownLease> {
    let text = match read_text(path, MAX_BYTES) {
        Ok(text) => text,
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "a lease file cannot be read");
            return Vec::new();
        }
    };
    if path.extension().is_some_and(|extension| extension == "status") {
        let bridge = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        status(&text, bridge.as_deref())
    } else {
        text.lines().filter_map(line).collect()
    }
}

/// dnsmasq(8): expiry, MAC, address, name, client id. A line of DHCPv6 has an identifier in the place
/// of the MAC, from which nobody can tell whose it is.
fn line(text: &str) -> Option<KnownLease> {
    let mut words = text.split_ascii_whitespace();
    let expires = words.next()?.parse().ok()?;
    lease(words.next()?, words.next()?, expires, None)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    ip_address: String,
    mac_address: Option<String>,
    expiry_time: u64,
}

/// What libvirt's `leaseshelper` writes.
fn status(text: &str, bridge: Option<&str>) -> Vec<KnownLease> {
    let entries: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    let entries = entries.into_iter().filter_map(|one| serde_json::from_value::<Entry>(one).ok());
    entries
        .filter_map(|one| lease(&one.mac_address?, &one.ip_address, one.expiry_time, bridge))
        .collect()
}

/// An expiry of 0 is none.
fn lease(mac: &str, address: &str, expires: u64, bridge: Option<&str>) -> Option<KnownLease> {
    let mac: Mac = mac.parse().ok()?;
    let address: IpAddr = address.parse().ok()?;
    Some(KnownLease {
        mac,
        vlan: 0,
        bridge: bridge.map(str::to_owned),
        address,
        expires: (expires != 0).then(|| Timestamp(expires.saturating_mul(MILLIS))),
        from_file: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(
            path("virbr0.status"),
            r#"[{"ip-address": "192.0.2.7", "mac-address": "52:54:00:00:00:07", "expiry-time": 9},
                {"ip-address": "x", "mac-address": "52:54:00:00:00:08", "expiry-time": 9},
                {"ip-address": "2001:db8::7", "mac-address": "52:54:00:00:00:07", "iaid": "1",
                 "expiry-time": 9}, {"ip-address": "192.0.2.9", "expiry-time": 9}, 7]"#,
        )
        .unwrap();
        let dnsmasq = "1800000000 52:54:00:00:00:07 192.0.2.7 guest 01:52:54:00:00:00:07\n\
                       0 52:54:00:00:00:08 192.0.2.8 * *\n\
                       duid 00:01:00:01:2c\n1800000000 1234 2001:db8::7 guest 00:01\n\
                       \u{1b}[31m\n9\n";
        fs::write(path("dnsmasq.leases"), dnsmasq).unwrap();
        fs::write(path("other"), dnsmasq).unwrap();
        let known =
            |number: u8, address: &str, expires: Option<u64>, bridge: Option<&str>| KnownLease {
                mac: Mac([0x52, 0x54, 0, 0, 0, number]),
                vlan: 0,
                bridge: bridge.map(str::to_owned),
                address: address.parse().unwrap(),
                expires: expires.map(Timestamp),
                from_file: true,
            };
        assert_eq!(
            read(&path("virbr0.status")),
            [
                known(7, "192.0.2.7", Some(9_000), Some("virbr0")),
                known(7, "2001:db8::7", Some(9_000), Some("virbr0")),
            ]
        );
        let found = matching(&path("*.leases"));
        assert_eq!(found, [path("dnsmasq.leases")]);
        assert_eq!(
            read(&found[0]),
            [
                known(7, "192.0.2.7", Some(1_800_000_000_000), None),
                known(8, "192.0.2.8", None, None),
            ]
        );
        assert_eq!(read(&path("none")), []);
        assert_eq!(matching(Path::new("/no such directory/*")), Vec::<PathBuf>::new());
    }

    #[test]
    fn patterns() {
        let cases = [
            ("*.leases", "a.leases", true),
            ("*.leases", "a.leases.new", false),
            ("a?c*", "abcd", true),
            ("a?c*", "ac", false),
            ("*a*b", "xaxxb", true),
            ("", "", true),
            ("x", "", false),
        ];
        for (pattern, name, expect) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expect, "{pattern} {name}");
        }
    }
}
