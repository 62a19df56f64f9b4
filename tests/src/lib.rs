//! What the tests of the whole product share: an agent that is the built binary, and ways to ask it.
//!
//! Tests here know nothing of the crates they test. They start the program that users start, speak to it over HTTP and
//! through its commands, kill it as machines do, and look at what is left. `tests/tests/` has the tests: `end_to_end`
//! (what a user and an operator see), `recorded` (the answers of a real Nomad, asked of ours), `house_rules` (layers,
//! sizes, words). What a test needs and a machine lacks is said aloud and skipped, or, where
//! `WAYFARER_TESTS_REQUIRE_ALL` is set, fails ([`machine::lacks`]).
//!
//! Read [`Agent`] first.

pub mod agent;
pub mod binary;
pub mod files;
pub mod http;
pub mod job;
pub mod leftovers;
pub mod machine;
pub mod process;
mod region;
pub mod wait;

pub use agent::{Agent, Ended, Kind};
pub use http::Answer;
pub use region::{Member, Part, Region};
