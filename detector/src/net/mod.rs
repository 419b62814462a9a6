//! rtnetlink: which interfaces there are, and the forwarding entries of bridge ports.
