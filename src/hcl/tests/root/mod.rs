//! The block that the texts of these tests are made of.

use hcl::{Count, Inside, RootBlock};

/// One `job` with a name, and what it may hold.
pub const fn job(inside: fn() -> Inside) -> RootBlock {
    RootBlock { kind: "job", labels: &["name"], count: Count::One, opaque: &[], inside }
}
