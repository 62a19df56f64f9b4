//! Links the binary at a fixed address, without symbols, and equal functions once.
//!
//! The same binary is the small process beside each task. At a fixed address its tables need no relocation, so that
//! their pages stay shared with every other such process instead of being copied into each. The price is that the
//! binary's own address is not drawn at random; libraries, stacks and heaps still are.
//!
//! Code for many types is often the same to the byte. The linker that comes with the compiler can keep one copy; others
//! can not, or not safely, so it is asked only where it is what links.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rerun-if-env-changed=WAYFARER_SYMBOLS");
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        // Who looks for where time goes sets this and the profile's `strip` to `none`.
        if env::var_os("WAYFARER_SYMBOLS").is_none() {
            println!("cargo:rustc-link-arg-bins=-Wl,--strip-all");
        }
        if links_with_lld() {
            println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        }
    }
}

/// Tells whether the compiler brings its own linker and uses it: on this target, unless the user chose another one.
fn links_with_lld() -> bool {
    let set = |name: &str| env::var(name).unwrap_or_default();
    let target = set("TARGET");
    let chosen = set("RUSTC_LINKER") + &set("CARGO_ENCODED_RUSTFLAGS");
    if target != "x86_64-unknown-linux-gnu" || target != set("HOST") || chosen.contains("link") {
        return false;
    }
    let Ok(printed) = Command::new(set("RUSTC")).args(["--print", "sysroot"]).output() else { return false };
    let sysroot = String::from_utf8_lossy(&printed.stdout).into_owned();
    Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("bin/gcc-ld/ld.lld").exists()
}
