//! Addresses in wire order.

use core::fmt;

use crate::layout;

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
    #[inline(always)]
    pub const fn link_local(self) -> Address {
        let [a, b, c, d, e, f] = self.0;
        Address {
            high: u64::from_ne_bytes([0xfe, 0x80, 0, 0, 0, 0, 0, 0]),
            low: u64::from_ne_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]),
        }
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

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291, section 2.5.5.2), as two words in
/// wire order: what maps keep as 16 bytes, in the form that compares in two steps.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct Address {
    high: u64,
    low: u64,
}

layout!(Address, size 16, high @ 0, low @ 8);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", core::net::Ipv6Addr::from(self.bytes()))
    }
}

impl Address {
    pub const UNSPECIFIED: Self = Self { high: 0, low: 0 };
    pub const LOOPBACK: Self = Self::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    #[inline(always)]
    pub const fn from_words(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    #[inline(always)]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self {
            high: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            low: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    #[inline(always)]
    pub const fn mapped(v4: [u8; 4]) -> Self {
        let [a, b, c, d] = v4;
        Self { high: 0, low: u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d]) }
    }

    #[inline(always)]
    pub const fn bytes(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.low.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The last four bytes: the IPv4 address of a mapped one.
    #[inline(always)]
    pub const fn v4(self) -> [u8; 4] {
        let [_, _, _, _, a, b, c, d] = self.low.to_ne_bytes();
        [a, b, c, d]
    }

    #[inline(always)]
    pub const fn is_mapped(self) -> bool {
        let [a, b, c, d, ..] = self.low.to_ne_bytes();
        self.high == 0 && a == 0 && b == 0 && c == 0xff && d == 0xff
    }

    /// The first byte is 0xff in every IPv6 multicast address.
    #[inline(always)]
    pub const fn is_v6_multicast(self) -> bool {
        self.high.to_ne_bytes()[0] == 0xff
    }

    /// Whether the address lies in `prefix`, whose bits outside of `mask` are zero.
    #[inline(always)]
    pub const fn is_within(self, prefix: Self, mask: Self) -> bool {
        self.high & mask.high == prefix.high && self.low & mask.low == prefix.low
    }
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
            core::net::Ipv6Addr::from(mac.link_local().bytes()).to_string(),
            "fe80::5054:ff:fe12:3456"
        );
    }
}
