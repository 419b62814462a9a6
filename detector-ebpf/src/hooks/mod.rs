//! One file for each place in the path of a frame.

pub(crate) mod device;
pub(crate) mod gate;
pub(crate) mod port_egress;
pub(crate) mod port_ingress;
pub(crate) mod sandbox;
pub(crate) mod shield;
