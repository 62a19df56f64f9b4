//! Tasks as plain processes.
