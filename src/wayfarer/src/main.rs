//! Agent configuration and the main binary.

fn main() {}
