//! Tasks that only pretend, for tests and benchmarks.
