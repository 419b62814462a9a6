//! The daemon: what happens goes in, what has to be done comes out.
//!
//! [`brain::Brain`] is a synchronous state machine. It owns the world, decides, reconciles, and
//! drives an [`Enforcer`](crate::enforcer::Enforcer); everything else that it wants done it returns
//! as an [`Effect`](input::Effect). Around it, tasks turn what happens into inputs (`observe`) and
//! carry effects out; [`lifecycle`] wires them up. The loop never waits for libvirt, for an image
//! to be digested or for a client.

pub(crate) mod actions;
mod admission;
mod adoption;
mod answer;
pub mod brain;
mod calls;
mod claims;
mod clock;
mod conduct;
mod curbs;
mod cycle;
mod denials;
mod end;
mod execute;
mod files;
mod fleet;
mod guests;
mod hands;
pub mod input;
mod intake;
mod inventories;
mod itself;
mod learning;
pub mod lifecycle;
mod links;
mod loads;
mod look;
mod media;
pub mod mitigations;
mod mode;
mod names;
mod overhear;
mod recall;
mod refusals;
pub mod reload;
mod remediation;
mod remedies;
mod responses;
mod runs;
mod seen;
mod sentence;
mod since;
pub mod sources;
mod succession;
mod supervisor;
mod tamper;
mod trail;
mod turns;

#[cfg(test)]
mod tests;
