//! Templates and what images descend from.
