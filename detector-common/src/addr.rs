//! Addresses in wire order.

use core::{fmt, net::Ipv6Addr};

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

/// A MAC on a VLAN as one number: the MAC's bytes as they lie in memory, then the VLAN id. Arrays
/// would be taken apart byte by byte in the kernel, and compared by a call.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Station(u64);

layout!(Station, size 8);

#[cfg(target_endian = "big")]
compile_error!("a station is laid out for little-endian machines, as the kernel object is");

impl Station {
    const MAC: u64 = 0xffff_ffff_ffff;

    #[inline(always)]
    pub const fn new(mac: Mac, vlan: u16) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) | (vlan as u64) << 48)
    }

    /// From the two parts that a MAC is loaded in, untagged.
    #[inline(always)]
    pub const fn from_parts(first: u32, last: u16) -> Self {
        Self(first as u64 | (last as u64) << 32)
    }

    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    pub const fn mac(self) -> Mac {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        Mac([a, b, c, d, e, f])
    }

    /// VLAN id, 0 for untagged and priority-tagged frames.
    #[inline(always)]
    pub const fn vlan(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline(always)]
    pub const fn on_vlan(self, vlan: u16) -> Self {
        Self(self.0 & Self::MAC | (vlan as u64) << 48)
    }

    #[inline(always)]
    pub const fn same_mac(self, other: Self) -> bool {
        (self.0 ^ other.0) & Self::MAC == 0
    }

    /// A group address, or none at all, is nobody's own.
    #[inline(always)]
    pub const fn is_valid_source(self) -> bool {
        self.0 & 1 == 0 && self.0 & Self::MAC != 0
    }

    /// 01:80:c2:00:00:00 to :0f, which bridges keep for themselves (IEEE 802.1D, table 7-10).
    #[inline(always)]
    pub const fn is_bridge_link_local(self) -> bool {
        self.0 & 0xf0ff_ffff_ffff == 0x0000_00c2_8001
    }

    /// 00:00:5e:00:01:xx and 00:00:5e:00:02:xx, under which a virtual router speaks (RFC 9568, section
    /// 7.3). It is no station's own: whoever is the active router speaks under it.
    #[inline(always)]
    pub const fn is_virtual_router(self) -> bool {
        matches!(self.0 & 0xff_ffff_ffff, 0x01_005e_0000 | 0x02_005e_0000)
    }

    /// The IPv6 link-local address a station forms from its MAC (RFC 4291, appendix A).
    #[inline(always)]
    pub const fn link_local(self) -> Address {
        let first = self.0 & 0x00ff_ffff ^ 2;
        let last = self.0 >> 24 & 0x00ff_ffff;
        Address { high: 0x80fe, low: first | 0xfeff << 24 | last << 40 }
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} vlan {}", self.mac(), self.vlan())
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
        fmt::Display::fmt(&Ipv6Addr::from(*self), f)
    }
}

impl From<Address> for Ipv6Addr {
    fn from(address: Address) -> Self {
        Self::from(address.bytes())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_bytes(address.octets())
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

    pub const fn mapped(v4: [u8; 4]) -> Self {
        Self::mapped_word(u32::from_ne_bytes(v4))
    }

    /// From an IPv4 address whose bytes lie in memory as they do on the wire.
    #[inline(always)]
    pub const fn mapped_word(v4: u32) -> Self {
        Self { high: 0, low: 0xffff_0000 | (v4 as u64) << 32 }
    }

    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        [self.high, self.low]
    }

    #[inline(always)]
    pub const fn bytes(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.low.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The last four bytes: the IPv4 address of a mapped one.
    pub const fn v4(self) -> [u8; 4] {
        self.v4_word().to_ne_bytes()
    }

    /// The same as one number, its bytes as they lie in memory.
    #[inline(always)]
    pub const fn v4_word(self) -> u32 {
        (self.low >> 32) as u32
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

    /// Whether the address is the unspecified one, the loopback one, IPv4-mapped, or another that
    /// begins with eight zero bytes.
    #[inline(always)]
    pub const fn is_special(self) -> bool {
        self.high == 0
    }

    /// fe80::/64, the link-local addresses that there are (RFC 4291, section 2.5.6).
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        self.high == 0x80fe
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
    fn stations() {
        let cases: &[(&str, bool, bool)] = &[
            ("52:54:00:12:34:56", true, false),
            ("00:00:00:00:00:00", false, false),
            ("00:00:00:00:00:01", true, false),
            ("01:80:c2:00:00:00", false, true),
            ("01:80:c2:00:00:0f", false, true),
            ("01:80:c2:00:00:10", false, false),
            ("01:80:c2:00:01:00", false, false),
            ("ff:ff:ff:ff:ff:ff", false, false),
        ];
        for &(text, valid, link_local) in cases {
            let mac: Mac = text.parse().unwrap();
            let station = Station::new(mac, 0xabc);
            assert_eq!((station.mac(), station.vlan()), (mac, 0xabc));
            assert!(station.same_mac(station.on_vlan(1)) && station != station.on_vlan(1));
            assert_eq!(station.is_valid_source(), valid, "{text}");
            assert_eq!(station.is_bridge_link_local(), link_local, "{text}");
        }
    }

    #[test]
    fn virtual_routers() {
        let cases = [
            ("00:00:5e:00:01:00", true),
            ("00:00:5e:00:02:ff", true),
            ("00:00:5e:00:03:01", false),
            ("00:00:5e:00:00:01", false),
            ("01:00:5e:00:01:01", false),
        ];
        for (text, expect) in cases {
            let station = Station::new(text.parse().unwrap(), 0xabc);
            assert_eq!(station.is_virtual_router(), expect, "{text}");
        }
    }

    #[test]
    fn link_local_flips_the_universal_bit() {
        let mac: Mac = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(
            Ipv6Addr::from(Station::new(mac, 7).link_local()).to_string(),
            "fe80::5054:ff:fe12:3456"
        );
    }
}
