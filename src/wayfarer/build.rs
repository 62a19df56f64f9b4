//! Links the binary at a fixed address.
//!
//! The same binary is the small process beside each task. At a fixed address its tables need no relocation, so that
//! their pages stay shared with every other such process instead of being copied into each. The price is that the
//! binary's own address is not drawn at random; libraries, stacks and heaps still are.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
}
