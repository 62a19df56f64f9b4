//! Finds the program under test, and builds it when it is older than what it is made of.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::SystemTime,
};

/// The top of the checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the checkout").to_owned()
}

/// The built binary: `WAYFARER_BIN`, or the one of the profile that runs this test.
///
/// # Panics
///
/// When it has to be built and does not build.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(given) = env::var_os("WAYFARER_BIN") {
            return PathBuf::from(given);
        }
        let binary = profile_dir().join("wayfarer");
        if is_older_than_sources(&binary) {
            build();
        }
        assert!(binary.is_file(), "the build left no program at {}", binary.display());
        binary
    })
}

/// `target/debug`: a test is in `target/debug/deps`, a program of this package right there.
fn profile_dir() -> PathBuf {
    let here = env::current_exe().expect("a running program has a path");
    let dir = here.parent().expect("a program lies in a directory");
    if dir.ends_with("deps") {
        dir.parent().expect("deps lies in a profile's directory").to_owned()
    } else {
        dir.to_owned()
    }
}

/// `cargo test --workspace` has built it already, with the very features of that run. This is for `cargo test -p tests`.
fn build() {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--package", "wayfarer"]).current_dir(checkout());
    let profile = profile_dir();
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    if let Some(target) = profile.parent() {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    let status = cargo.status().expect("cargo runs where its tests run");
    assert!(status.success(), "the program under test does not build");
}

fn is_older_than_sources(binary: &Path) -> bool {
    let Ok(built) = fs::metadata(binary).and_then(|meta| meta.modified()) else {
        return true;
    };
    ["src", "gossip", "transport", "Cargo.lock"].iter().any(|part| newest(&checkout().join(part)) > built)
}

fn newest(path: &Path) -> SystemTime {
    let Ok(meta) = fs::metadata(path) else {
        return SystemTime::UNIX_EPOCH;
    };
    if meta.is_file() {
        // Tests and fixtures are not in the program.
        let counts = path.extension().is_none_or(|ext| ext != "txt" && ext != "md");
        return if counts {
            meta.modified().unwrap_or(SystemTime::UNIX_EPOCH)
        } else {
            SystemTime::UNIX_EPOCH
        };
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| !matches!(entry.file_name().to_str(), Some("tests" | "benches" | "examples")))
        .map(|entry| newest(&entry.path()))
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
