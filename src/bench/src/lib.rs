//! Measures a cluster: `wayfarer bench SCENARIO`.
//!
//! A scenario starts servers as processes of this very binary, with a data directory each, fsync and mutual TLS on, and
//! simulated nodes in one further process. It drives jobs through the public API, so that the same jobs can be given to
//! any agent that speaks it (`-address`), and says what it took: times, the processors' time of servers and of nodes
//! apart, memory, and how busy the machine was meanwhile.
//!
//! A simulated node holds the product's own session over real QUIC, with its outbox and its certificate; only what runs
//! the allocations is a pretence that answers "running" at once. This crate decides nothing about a cluster, and nothing
//! of the product depends on it but the binary.
//!
//! Read `scenario/mod.rs` first: what there is to measure.

mod api;
mod cluster;
mod drive;
mod jobs;
mod nodes;
mod options;
mod pretender;
mod process;
mod report;
mod scenario;

use runtime::{Env, Shutdown};

use crate::options::{Asked, Options};

/// Runs `wayfarer bench` with the words after it, and returns its exit code.
pub async fn run(args: Vec<String>) -> i32 {
    let env = Env::real(Shutdown::new());
    let done = match Options::parse(&args) {
        Ok(Asked::Help) => {
            println!("{}", options::HELP);
            return 0;
        }
        Ok(Asked::Nodes(wanted)) => nodes::run(&env, wanted).await,
        Ok(Asked::Scenario(options)) => scenario::run(&env, &options).await,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{}", options::HELP);
            return 1;
        }
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("bench: {error:#}");
            1
        }
    }
}
