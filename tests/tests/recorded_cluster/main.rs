//! Regions whose agents have a network namespace each, so that every one has the ports that agents have by default: what a
//! real region answered, and requests that find who answers. They need root.

mod recorded;
mod requests;
