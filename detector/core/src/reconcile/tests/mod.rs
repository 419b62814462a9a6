//! From any world to rest, and in which order.

mod compiled;
mod fixpoint;
mod order;
mod switches;
