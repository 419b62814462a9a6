//! Where the VMs of this host are known from.
