//! How agents become a region, end to end: over a network in memory on paused time, and over QUIC.

#![allow(clippy::unwrap_used)]

mod attacks;
mod harness;
mod invitations;
mod stories;
