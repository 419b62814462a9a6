//! The one bounded reader.
