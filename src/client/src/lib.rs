//! Runs allocations on a node.
