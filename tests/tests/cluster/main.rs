//! A region of several agents, each in a network namespace of its own: what it says, and what requests go through.
//! Where namespaces can not be made, each test says so and passes.

mod recorded;
mod requests;
