//! The passage between a quarantined port and its sandbox: a veth pair, of which the outer end is a port
//! of the sandbox's bridge, and the inner end ours.

use crate::layout;

/// Value of `SANDBOX`: of a port, where its frames go instead; of the inner end of a passage, whose
/// frames come from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Passage {
    /// ifindex of the inner end, or of the port.
    pub peer: u32,
    /// The port instance that the passage was made for.
    pub instance: u32,
}

layout!(Passage, size 8, peer @ 0, instance @ 4);
