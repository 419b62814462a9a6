//! What a port has before it learns: from lease files, and from before a restart of the host.

use super::*;
