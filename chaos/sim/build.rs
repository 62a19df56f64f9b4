//! Puts entropy of our own in the place of the system's, in the simulation's binary alone.

fn main() {
    println!("cargo:rerun-if-changed=src/entropy.c");
    println!("cargo:rerun-if-changed=build.rs");
    for object in cc::Build::new().file("src/entropy.c").compile_intermediates() {
        println!("cargo:rustc-link-arg-bin=chaos-sim={}", object.display());
    }
    // Some crates look for the function by its name when they run.
    println!("cargo:rustc-link-arg-bin=chaos-sim=-rdynamic");
}
