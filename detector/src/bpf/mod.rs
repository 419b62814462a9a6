//! The only place that knows aya: load, pin, attach, maps, events.
