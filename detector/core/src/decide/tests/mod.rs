//! Decisions on whole worlds; each file is about one promise.

mod adoption;
mod births;
mod claims;
mod clock;
mod conduct;
mod conflicts;
mod curbs;
mod devices;
mod evidence;
mod findings;
mod guard;
mod in_force;
mod interfaces;
mod learning;
mod mode;
mod processes;
mod profiles;
mod purity;
mod quarantine;
mod responses;
mod revocation;
mod sandbox;
mod shields;
mod transit;
mod variables;
mod verdicts;
