//! From claim to verdict.
