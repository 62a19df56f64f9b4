//! Messages between agents and replicated commands, each with a version.
