//! The web pages, embedded in the binary.
