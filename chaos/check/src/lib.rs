//! Invariants and the history checker.
