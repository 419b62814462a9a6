//! What the suites share: namespaces, taps, guests, a libvirt of their own.
