//! From frame to claim.
