//! DHCPv6.

use super::*;
