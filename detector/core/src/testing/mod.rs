//! A host to try decisions on: worlds in a few words, and a kernel that carries out actions.

mod kernel;
mod lab;

pub(crate) use kernel::FakeKernel;
pub(crate) use lab::{
    BASE, BRIDGE, CDROM, DEVICE, EXPIRED, Lab, MINUTE, REVOKED, SANDBOX, STALE, UNKNOWN, UPLINK,
};
