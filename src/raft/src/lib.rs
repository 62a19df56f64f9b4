//! openraft and its storage: replicates commands, keeps the log.
