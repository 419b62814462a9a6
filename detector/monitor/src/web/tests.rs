//! The whole router, with somebody in the place of a host.

mod asked;
mod known;
mod served;
