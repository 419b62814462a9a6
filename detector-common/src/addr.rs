//! Addresses in wire order.

use core::fmt;

/// An Ethernet address, in wire order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const ZERO: Self = Self([0; 6]);

    /// The group bit: set in multicast and broadcast addresses, never in a station's own.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The IPv6 link-local address a station forms from its MAC (RFC 4291, appendix A).
    pub const fn link_local(self) -> [u8; 16] {
        let m = self.0;
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Why a text is no MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacParseError;

impl fmt::Display for MacParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address: expected six hexadecimal octets such as 52:54:00:12:34:56")
    }
}

impl core::error::Error for MacParseError {}

impl core::str::FromStr for Mac {
    type Err = MacParseError;

    fn from_str(text: &str) -> Result<Self, MacParseError> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or(MacParseError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacParseError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacParseError)?;
        }
        if parts.next().is_some() { Err(MacParseError) } else { Ok(Self(octets)) }
    }
}

/// Places an IPv4 address where every map keeps one: as an IPv4-mapped IPv6 address (RFC 4291,
/// section 2.5.5.2).
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text() {
        let cases: &[(&str, Option<Mac>)] = &[
            ("52:54:00:12:34:5f", Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x5f]))),
            ("52-54-00-12-34-5F", Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x5f]))),
            ("", None),
            ("52:54:00:12:34", None),
            ("52:54:00:12:34:56:78", None),
            ("52:54:00:12:34:5g", None),
            ("+2:54:00:12:34:56", None),
            ("5:254:00:12:34:56", None),
        ];
        for (text, expect) in cases {
            assert_eq!(text.parse::<Mac>().ok(), *expect, "{text:?}");
        }
    }

    #[test]
    fn link_local_flips_the_universal_bit() {
        let mac: Mac = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(
            core::net::Ipv6Addr::from(mac.link_local()).to_string(),
            "fe80::5054:ff:fe12:3456"
        );
    }
}
