//! The in-memory versioned store.
