//! The task driver trait, its conformance suite, and the per-task shim.
