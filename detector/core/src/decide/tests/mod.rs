//! Decisions on whole worlds; each file is about one promise.

mod claims;
mod conflicts;
mod evidence;
mod findings;
mod in_force;
mod interfaces;
mod learning;
mod processes;
mod purity;
mod quarantine;
mod sandbox;
mod shields;
mod transit;
mod verdicts;
